"""`python -m r2seg_agent` is `r2seg`."""

from r2seg_agent.cli.main import main

if __name__ == "__main__":
    main()

"""What several tests share: scripted models, small scans, servers, made-up models."""

"""LiteMedSAM (Ma et al., Nature Communications 2024), written anew in plain PyTorch for its released weights."""

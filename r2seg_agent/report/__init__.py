"""Report: findings, measurements, pictures and files for people and programs."""

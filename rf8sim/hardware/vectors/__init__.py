"""Test vectors and their files."""

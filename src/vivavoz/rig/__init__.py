"""A portrait that can be posed: its landmarks, the mesh they carry, and pictures of it with other lips, eyes and pose."""

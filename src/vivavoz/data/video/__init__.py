"""Real video made into clips: sources, shots, faces, crops, and the reasons for what is left out."""

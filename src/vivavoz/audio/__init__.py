"""Sound: reading, resampling, mel spectrogram, audio encoder, and which sound belongs to which picture."""

"""The parts models are built from: causal convolution, CR-VA resampling, attention, norms, stream state, KV cache."""

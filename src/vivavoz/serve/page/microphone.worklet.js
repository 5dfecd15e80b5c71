// The microphone's sound in pieces of 40 ms, at the rate asked for: every sample is the mean of those it stands for.

class MicrophoneProcessor extends AudioWorkletProcessor {
  constructor({ processorOptions: { rateHz } }) {
    super();
    this.ratio = sampleRate / rateHz;
    this.piece = new Int16Array(rateHz / 25);
    this.filled = 0;
    this.sum = 0;
    this.weight = 0;
  }

  process([[channel]]) {
    for (const value of channel ?? []) {
      let left = 1;
      while (left > 0) {
        const part = Math.min(left, this.ratio - this.weight);
        this.sum += part * value;
        this.weight += part;
        left -= part;
        if (this.weight >= this.ratio - 1e-9) this.emit();
      }
    }
    return true;
  }

  emit() {
    this.piece[this.filled] = Math.max(-1, Math.min(1, this.sum / this.weight)) * 32767;
    this.sum = this.weight = 0;
    this.filled += 1;
    if (this.filled === this.piece.length) {
      this.port.postMessage(this.piece.slice());
      this.filled = 0;
    }
  }
}

registerProcessor("microphone", MicrophoneProcessor);

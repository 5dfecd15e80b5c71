"""Avatars inside other frameworks, in their process: LiveKit Agents and Pipecat. Each needs an extra of its name."""

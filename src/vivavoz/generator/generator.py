"""The generator: velocities of noised latent blocks, given references, audio, controls and the clean past.

`B C T H W` latents (C latent channels, T latent frames), `B F S D` tokens (F latent frames of S = H * W tokens).
`t` is flow time: 1 noise, 0 data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vivavoz.errors import ConfigError
from vivavoz.generator.conditioning import AudioEmbedder, ControlEmbedder, Controls
from vivavoz.generator.config import GeneratorConfig
from vivavoz.generator.masks import teacher_forcing_mask, token_mask
from vivavoz.generator.state import CacheRead, ContextState, GeneratorState
from vivavoz.generator.transformer import FlowTime, Modulations, Transformer, stack_layers
from vivavoz.nn.kv_cache import KVCache
from vivavoz.nn.modulation import Modulation
from vivavoz.nn.rope import grid_positions, rotation_at, rotation_within

_REFERENCE_TIME = -1.0
"""Time position of every reference, just before the window: references are a set, their order does not matter."""


class Generator(nn.Module):
    """Rectified-flow transformer `G` of section 3.2.

    Training sees a whole window in one pass (`forward`). Inference works block by block on a `GeneratorState`:
    `init_state`, `prefill` the references, then per block `conditions`, some calls of `velocity` or `guidance_velocities`
    (they only read the state) and one `commit`.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.audio = AudioEmbedder(config)
        self.controls = ControlEmbedder(config) if config.controls else None
        # A linear layer on concat(z_t, a') is the sum of a linear layer on each; a' is the same all over a latent frame.
        self.latent_in = nn.Linear(config.latent_channels, config.width)
        self.condition_in = nn.Linear(config.condition_channels, config.width, bias=False)
        self.context_embedding = nn.Parameter(torch.empty(config.width))
        self.reference_embedding = nn.Parameter(torch.empty(config.width))
        self.null_reference = nn.Parameter(torch.empty(config.width))
        self.first_latent_mask = nn.Parameter(torch.empty(config.width))
        self.transformer = Transformer(config)
        self._init_weights()

    # Conditions

    def conditions(
        self,
        audio: Tensor,
        *,
        starts_video: Tensor | bool,
        controls: Controls | None = None,
        drop_audio: Tensor | None = None,
    ) -> Tensor:
        """Conditions of `N` latents, computed once per block: a' and, if the model has them, the controls.

        `audio` is `(B, N, 4, audio_features)` from `group_audio`; `starts_video` says, for all rows or per row `(B,)`, whether
        the first of these latents is the video's first; rows of `drop_audio`, `(B,)` bool, get the null embedding.
        Returns `(B, N, condition_channels)`. Raises `ConfigError` for controls that the model does not have.
        """
        batch_size, num_latents = audio.shape[:2]
        if isinstance(starts_video, bool):
            starts_video = torch.full((batch_size,), starts_video, device=audio.device)
        embedded: Tensor = self.audio(audio.to(self.dtype), starts_video, drop_audio)
        if self.controls is None:
            if controls is not None:
                raise ConfigError("got controls, but this generator has none: leave them out or use a preset with controls")
            return embedded
        return torch.cat([embedded, self.controls(controls or Controls(), batch_size, num_latents)], -1)

    def without_audio(self, conditions: Tensor) -> Tensor:
        """The same conditions with the null embedding in place of a'."""
        others = conditions[..., self.config.audio_channels :]
        return torch.cat([self.audio.null.to(conditions.dtype).expand(*conditions.shape[:-1], -1), others], -1)

    # Training

    def forward(
        self,
        noised: Tensor,
        context: Tensor,
        flow_time: Tensor,
        references: Tensor,
        audio: Tensor,
        *,
        starts_video: Tensor | bool,
        reference_mask: Tensor | None = None,
        drop_audio: Tensor | None = None,
        controls: Controls | None = None,
        blocks: int | tuple[int, ...] | None = None,
    ) -> Tensor:
        """Teacher forcing: velocities of all blocks of a window in one pass (algorithm 1, figure 4).

        - `noised` and `context`, `(B, C, N, H, W)`: `z_t`, and the (augmented) ground truth that later blocks see.
        - `flow_time` of `noised`: `(B,)`, or `(B, N)` for a time per latent frame.
        - `references`, `(B, C, R, H, W)`, each portrait's latent; `reference_mask`, `(B, R)` bool, True where a row has it
          (None: all). A row without any gets the null reference.
        - `audio`, `starts_video`, `drop_audio`, `controls`: see `conditions`.
        - `blocks`: latent frames per block, counted from the window's start, or the size of each block; None: the config's.

        Returns the velocity, `(B, C, N, H, W)`.
        """
        batch_size, _, num_latents, height, width = noised.shape
        conditions = self.conditions(audio, starts_video=starts_video, controls=controls, drop_audio=drop_audio)
        if isinstance(starts_video, bool):
            starts_video = torch.full((batch_size,), starts_video, device=noised.device)
        reference_tokens, reference_mask = self._reference_tokens(references, reference_mask)
        num_references = reference_tokens.shape[1]
        x = torch.cat(
            [reference_tokens, self._tokens(context, None, starts_video), self._tokens(noised, conditions, starts_video)], 1
        )
        latent_times = torch.arange(num_latents, device=noised.device, dtype=torch.float32)
        times = torch.cat([latent_times.new_full((num_references,), _REFERENCE_TIME), latent_times, latent_times])
        rotation = rotation_at(grid_positions(times[None], height, width), self.config.head_dim)
        frame_mask = teacher_forcing_mask(num_references, num_latents, blocks or self.config.block_latents).to(noised.device)
        noised_time = _per_frame(flow_time).expand(-1, num_latents)
        clean_time = noised_time.new_zeros(noised_time.shape[0], num_references + num_latents)
        x, _ = self.transformer(
            x,
            torch.cat([clean_time, noised_time], 1),
            rotation,
            mask=token_mask(frame_mask, reference_mask, height * width),
        )
        return self._velocity(x[:, num_references + num_latents :], noised_time, noised)

    # Inference

    def init_state(
        self,
        batch_size: int,
        latent_size: tuple[int, int],
        *,
        num_references: int | None = None,
        guidance: bool = True,
        cache_read: CacheRead = CacheRead.MASKED,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> GeneratorState:
        """A fresh stream of `batch_size` videos on a grid of `latent_size` (rows, columns); `prefill` it next.

        `num_references` is the number of reference slots (None: the most there can be); `guidance` keeps a second context
        without references for `guidance_velocities`. Device and dtype of the cache default to the weights'.
        """
        slots = self.config.max_references if num_references is None else num_references
        if not 1 <= slots <= self.config.max_references:
            raise ConfigError(f"got {slots} reference slots, expected 1 to {self.config.max_references}: change num_references")
        tokens_per_latent = latent_size[0] * latent_size[1]
        device = self.latent_in.weight.device if device is None else device

        def context(num_slots: int) -> ContextState:
            cache = KVCache.empty(
                batch_size,
                num_layers=self.config.depth,
                num_heads=self.config.num_heads,
                capacity_tokens=(num_slots + self.config.window_latents) * tokens_per_latent,
                head_dim=self.config.head_dim,
                device=device,
                dtype=dtype or self.dtype,
            )
            return ContextState(
                cache=cache,
                reference_mask=torch.zeros(batch_size, num_slots, dtype=torch.bool, device=device),
                filled_latents=torch.zeros(batch_size, dtype=torch.int64, device=device),
                started=torch.zeros(batch_size, dtype=torch.bool, device=device),
            )

        return GeneratorState(full=context(slots), no_reference=context(1) if guidance else None, cache_read=cache_read)

    @torch.no_grad()
    def prefill(self, references: Tensor, state: GeneratorState, reference_mask: Tensor | None = None) -> None:
        """Write the keys and values of reference latents `(B, C, R, H, W)` to the state (`KV_r` of algorithm 2).

        `reference_mask`, `(B, R)` bool, is True where a row has the reference (None: all); a row without any gets the null
        reference. May be called again on a running stream to change its references. Raises `ConfigError` for more references
        than the state has slots.
        """
        missing = state.full.num_references - references.shape[2]
        if missing < 0:
            raise ConfigError(
                f"got {references.shape[2]} references, expected at most {state.full.num_references}: "
                "leave some out or make the state with more slots"
            )
        if reference_mask is None:
            reference_mask = references.new_ones(references.shape[0], references.shape[2], dtype=torch.bool)
        references = torch.cat([references, references.new_zeros(*references.shape[:2], missing, *references.shape[3:])], 2)
        reference_mask = torch.cat([reference_mask, reference_mask.new_zeros(reference_mask.shape[0], missing)], 1)
        self._prefill(references, reference_mask, state.full)
        if state.no_reference is not None:
            self._prefill(references[:, :, :1], torch.zeros_like(reference_mask[:, :1]), state.no_reference)

    def modulations(self, flow_times: Tensor) -> tuple[Modulations, ...]:
        """What each of `flow_times`, `(n,)`, says to the layers. A sampler's times are the same for every block: `velocity`,
        `guidance_velocities` and `write_context` (at time 0) take these in place of a time, and give the same to the bit.
        """
        return tuple(self.transformer.modulations(_per_frame(time)) for time in flow_times.unbind())

    def velocity(self, z_block: Tensor, conditions: Tensor, flow_time: Tensor | Modulations, state: GeneratorState) -> Tensor:
        """Velocity of the next block, fully conditioned; the state is only read.

        `z_block` is `(B, C, k, H, W)` at `flow_time`, a tensor `()`, `(B,)` or `(B, k)`, or its `modulations`; `conditions` is
        `(B, k, condition_channels)`. Returns `(B, C, k, H, W)`.
        """
        return self._block_velocity(z_block, conditions, flow_time, state, [state.full])

    def guidance_velocities(
        self, z_block: Tensor, conditions: Tensor, flow_time: Tensor | Modulations, state: GeneratorState
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The three velocities of equation (I): full, without audio, without references; one pass, the state is only read.

        Arguments as for `velocity`, except that a tensor `flow_time` is `()`. The branch without audio shares the full
        branch's cache. Raises `ConfigError` for a state made without guidance.
        """
        if state.no_reference is None:
            raise ConfigError("got a state without guidance, expected one with: make it with init_state(guidance=True)")
        velocities = self._block_velocity(
            z_block.repeat(3, 1, 1, 1, 1),
            torch.cat([conditions, self.without_audio(conditions), conditions]),
            flow_time,
            state,
            [state.full, state.full, state.no_reference],
        )
        full, no_audio, no_reference = velocities.chunk(3)
        return full, no_audio, no_reference

    @torch.no_grad()
    def write_context(self, z_block: Tensor, state: GeneratorState, clean: Modulations | None = None) -> None:
        """The clean pass: append a finished block `(B, C, k, H, W)` to every context of the state. `clean`: what time 0 says.

        Tensors only, so that it can be compiled and captured; `commit` does the bookkeeping around it.
        """
        contexts = state.contexts()
        z_blocks, time = z_block.repeat(len(contexts), 1, 1, 1, 1), z_block.new_zeros(1, 1) if clean is None else clean
        _, own = self._run_block(z_blocks, None, time, state, contexts)
        keys, values = stack_layers(own)
        for context, keys_, values_ in zip(contexts, keys.chunk(len(contexts)), values.chunk(len(contexts)), strict=True):
            context.write_(keys_, values_, z_block.shape[2])

    def commit(
        self,
        z_block: Tensor,
        state: GeneratorState,
        *,
        next_block_latents: int | None = None,
        write: Callable[[Tensor, GeneratorState], None] | None = None,
    ) -> None:
        """Make a finished block `(B, C, k, H, W)` part of the past of rows that move in step (algorithm 2, step 3).

        `write` may be a compiled `write_context`. See `make_room`.
        """
        num_latents = z_block.shape[2]
        self.make_room(num_latents, state, next_block_latents=next_block_latents)
        (write or self.write_context)(z_block, state)
        state.advance_(num_latents)

    def make_room(self, num_latents: int, state: GeneratorState, *, next_block_latents: int | None = None) -> None:
        """Before a finished block of `num_latents` is written: empty the window down to the references if it would then have no
        room left for `next_block_latents` more (None: the config's block). The block then stands at the new window's start.

        Raises `ConfigError` for a block that does not fit.
        """
        left = self.config.window_latents - state.window_latents
        if num_latents > left:
            raise ConfigError(
                f"got a block of {num_latents} latents with {left} left in the window: announce it as next_block_latents when "
                "the block before is committed"
            )
        if num_latents + (next_block_latents or self.config.block_latents) > left:
            state.empty_window_()

    # Parts

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.latent_in.weight.dtype

    def _block_velocity(
        self,
        z_block: Tensor,
        conditions: Tensor,
        flow_time: Tensor | Modulations,
        state: GeneratorState,
        contexts: Sequence[ContextState],
    ) -> Tensor:
        time = _per_frame(flow_time) if isinstance(flow_time, Tensor) else flow_time
        features, _ = self._run_block(z_block, conditions, time, state, contexts)
        return self._velocity(features, time, z_block)

    def _run_block(
        self,
        z_block: Tensor,
        conditions: Tensor | None,
        flow_time: FlowTime,
        state: GeneratorState,
        contexts: Sequence[ContextState],
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Run a block of each context's rows, one after the other in the batch, behind that context."""
        num_latents, height, width = z_block.shape[2:]
        tokens_per_latent = height * width
        filled = state.window_latents if state.cache_read is CacheRead.FILLED else None
        started = torch.cat([context.started for context in contexts])
        times = torch.cat([context.times(num_latents) for context in contexts])
        features, own = self.transformer(
            self._tokens(z_block, conditions, ~started),
            flow_time,
            rotation_within(times, self.config.window_latents + num_latents, (height, width), self.config.head_dim),
            pasts=[context.past(tokens_per_latent, num_latents * tokens_per_latent, filled) for context in contexts],
        )
        return features, own

    def _prefill(self, references: Tensor, reference_mask: Tensor, context: ContextState) -> None:
        tokens, reference_mask = self._reference_tokens(references, reference_mask)
        height, width = references.shape[3:]
        times = torch.full((1, tokens.shape[1]), _REFERENCE_TIME, device=tokens.device)
        _, own = self.transformer(
            tokens,
            torch.zeros(1, 1, device=tokens.device),
            rotation_at(grid_positions(times, height, width), self.config.head_dim),
            mask=reference_mask.repeat_interleave(height * width, 1)[:, None, None],
        )
        context.cache.write_(*stack_layers(own), torch.zeros_like(context.filled_latents))
        context.reference_mask.copy_(reference_mask)

    def _tokens(self, z: Tensor, conditions: Tensor | None, starts_video: Tensor) -> Tensor:
        """Latents `(B, C, F, H, W)` to tokens `(B, F, S, D)`: noised ones with conditions, context ones without.

        The first latent of rows of `starts_video`, `(B,)` bool, gets the learned mask token.
        """
        x: Tensor = self.latent_in(z.to(self.dtype).flatten(3).permute(0, 2, 3, 1))
        x = x + (self.context_embedding if conditions is None else self.condition_in(conditions.to(self.dtype))[:, :, None])
        mask_token = starts_video[:, None, None, None].to(x.dtype) * self.first_latent_mask
        return torch.cat([x[:, :1] + mask_token, x[:, 1:]], 1)

    def _reference_tokens(self, references: Tensor, reference_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Reference latents `(B, C, R, H, W)` to tokens `(B, R, S, D)` and who has which, `(B, R)`.

        Where a row has none, its first slot holds the null reference, whatever R is.
        """
        x = self.latent_in(references.to(self.dtype).flatten(3).permute(0, 2, 3, 1)) + self.reference_embedding
        if reference_mask is None:
            return x, references.new_ones(references.shape[0], references.shape[2], dtype=torch.bool)
        null = ~reference_mask.any(1, keepdim=True)
        x = torch.where(null[:, :, None, None], self.null_reference.to(x.dtype), x)
        return x, torch.cat([reference_mask[:, :1] | null, reference_mask[:, 1:]], 1)

    def _velocity(self, features: Tensor, flow_time: FlowTime, like: Tensor) -> Tensor:
        velocity: Tensor = self.transformer.velocity(features, flow_time)
        return velocity.permute(0, 3, 1, 2).reshape(like.shape).to(like.dtype)

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for parameter in (self.context_embedding, self.reference_embedding, self.null_reference, self.first_latent_mask):
            nn.init.normal_(parameter, std=0.02)
        # Every block starts as the identity and every velocity at zero.
        modulations = [module.projection for module in self.modules() if isinstance(module, Modulation)]
        for layer in [*modulations, self.transformer.out]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


def _per_frame(flow_time: Tensor) -> Tensor:
    """Flow times `()`, `(B,)` or `(B, F)` as `(B or 1, F or 1)`."""
    if flow_time.ndim == 0:
        return flow_time[None, None]
    return flow_time[:, None] if flow_time.ndim == 1 else flow_time

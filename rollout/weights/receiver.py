"""Receives weights over gloo inside vLLM's worker process; registered with vLLM by `rollout.vllm.plugin`."""

from __future__ import annotations

from dataclasses import dataclass

from vllm.distributed.weight_transfer import nccl_engine

from rollout.weights.gloo import join, receive
from rollout.weights.manifest import Manifest


@dataclass(kw_only=True)
class GlooInitInfo(nccl_engine.NCCLWeightTransferInitInfo):
    """Adds to vLLM's fields the seconds after which any step of a transfer fails instead of hanging."""

    timeout: float


class GlooWeightTransferEngine(nccl_engine.NCCLWeightTransferEngine):
    """Takes part in vLLM's weight-transfer protocol over gloo: start (layerwise reload), update, finish."""

    init_info_cls = GlooInitInfo

    def init_transfer_engine(self, init_info: GlooInitInfo) -> None:
        """Joins the learner's group; waits for the others, at most `timeout` seconds."""
        self.shutdown()
        self._limit = init_info.packed_buffer_size_bytes
        rank = init_info.rank_offset + self.parallel_config.rank
        self.model_update_group = join(
            init_info.master_address, init_info.master_port, rank, init_info.world_size, init_info.timeout
        )

    def update_weights(self, update_info: dict) -> None:
        """Receives and loads an update; the base class synchronises an accelerator even where there is none."""
        if self.device.type != "cpu":
            return super().update_weights(update_info)
        return self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: nccl_engine.NCCLWeightTransferUpdateInfo) -> None:
        """Loads bucket after bucket.

        Raises:
            RuntimeError: the learner went away or was too slow, or what arrived is not what it sent.
        """
        if self.model_update_group is None:
            raise RuntimeError("weights were announced before the transfer group was opened")
        shapes = tuple(tuple(shape) for shape in update_info.shapes)
        manifest = Manifest(tuple(update_info.names), tuple(update_info.dtype_names), shapes)
        try:
            for tensors in receive(self.model_update_group, manifest, self._limit):
                self.model.load_weights(tensors)
        except BaseException:
            self.shutdown()  # so that the learner sees an error now, and not at its deadline
            raise

    def finish_weight_update(self) -> None:
        """Finalises the reload, then packs a tied output layer anew.

        On CPUs linear layers run from packed copies of their weights. A tied output layer receives no weight
        of its own, so the reload passes it by, and it would go on answering with the old ones.
        """
        from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        super().finish_weight_update()
        if self.device.type == "cpu" and self.model_config.hf_config.tie_word_embeddings:
            for layer in self.model.modules():
                if isinstance(layer, ParallelLMHead):
                    dispatch_cpu_unquantized_gemm(layer, remove_weight=False)

    def shutdown(self) -> None:
        """Leaves the group."""
        self.model_update_group = None

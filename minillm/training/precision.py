"""Which arithmetic is fast here."""

import torch


def fastest_precision(accelerator: str) -> str:
    """The precision to train in: bf16 autocast where the hardware multiplies bf16 matrices, else float32.

    Args:
        accelerator: As the Trainer takes it.

    Returns:
        As the Trainer's `precision` takes it: `bf16-mixed` or `32-true`.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        processor = torch.cpu.get_capabilities()
        fast = bool(processor.get("avx512_bf16") or processor.get("amx_bf16"))
    else:
        fast = False
    return "bf16-mixed" if fast else "32-true"

"""Model card: what a model is, its text and its loss, and how to load it."""

import math

from minillm.checkpoint.validation import Checkpoint
from minillm.generation.sampling_params import SamplingParams

USAGE = {
    "safetensors": """```bash
minillm predict --ckpt_path THIS_FOLDER --prompt "{prompt}"
```

In Python: `model, tokenizer = minillm.load("THIS_FOLDER")`.""",
    "hf": """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("THIS_FOLDER")
tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
ids = tokenizer("{prompt}", return_tensors="pt").input_ids
print(tokenizer.decode(model.generate(ids)[0]))
```

The model has learned {context_length} positions: by default, generation ends after as many tokens with the prompt.""",
    "gguf": """```bash
llama-cli -m THIS_FOLDER/model.gguf -no-cnv -c {context_length} -n {max_new_tokens} -p "{prompt}"
```""",
    "onnx": """```python
import onnxruntime
from tokenizers import Tokenizer

session = onnxruntime.InferenceSession("THIS_FOLDER/model.onnx")
tokenizer = Tokenizer.from_file("THIS_FOLDER/tokenizer.json")
ids = tokenizer.encode("{prompt}").ids
for _ in range({max_new_tokens}):  # greedy decoding
    (logits,) = session.run(None, {{"ids": [ids[-{context_length}:]]}})
    ids.append(int(logits[0, -1].argmax()))
print(tokenizer.decode(ids))
```""",
}


def model_card(checkpoint: Checkpoint, format: str) -> str:
    """Return the model card in Markdown.

    Args:
        checkpoint: The model.
        format: Name of the format.
    """
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    num_parameters = sum(math.prod(shape) for shape in config.weight_shapes().values())
    parts = [
        f"{config.num_layers} blocks, {config.num_heads} heads, {config.embed_dim} channels",
        f"context of {config.context_length} tokens",
        f"{config.position} positions",
        f"{'RMSNorm' if config.norm == 'rms' else 'LayerNorm'}",
        config.activation,
        *(["QK-norm"] if config.query_key_norm else []),
        *(["token shift"] if config.token_shift else []),
    ]
    kind = f"{tokenizer.vocab_size} {'byte pairs' if hasattr(tokenizer, 'merges') else 'characters'}"
    loss = checkpoint.lowest_val_loss
    loss = "" if loss is None else f"- Validation loss (the lowest of the run): {loss:.4f} nats per token\n"
    usage = USAGE[format].format(
        prompt=tokenizer.default_prompt.replace("\n", "\\n"),
        context_length=config.context_length,
        max_new_tokens=max(config.context_length - 1, 1),
    )
    return f"""---
library_name: {"transformers" if format == "hf" else "minillm"}
pipeline_tag: text-generation
---

# A small language model

A decoder-only Transformer with {num_parameters:,} parameters, trained with MiniLLM.

- Architecture: {", ".join(parts)}
- Vocabulary: {kind}
- Text: {checkpoint.corpus_name or "unknown"}, {checkpoint.step:,} steps
{loss}- Sampling: temperature {SamplingParams.temperature}, without top-k and top-p

## Use

{usage}
"""

"""Train the reference model with a Trainer of one's own, and generate text.

python examples/plain_trainer.py [STEPS]
"""

import sys

from lightning.pytorch import Trainer, seed_everything

import minillm
from minillm.data.datamodule import TextDataModule
from minillm.training.module import LanguageModel

seed_everything(1337)
data = TextDataModule("tinyshakespeare", context_length=64, batch_size=32)
model = LanguageModel(vocab_size=data.vocab_size, context_length=64, embed_dim=128, num_layers=2, num_heads=4)
num_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 500
trainer = Trainer(max_steps=num_steps, val_check_interval=num_steps, check_val_every_n_epoch=None)
trainer.fit(model, data)
trainer.save_checkpoint("plain.ckpt")
print(trainer.validate(model, data))
print("".join(minillm.generate(model, data.tokenizer, "ROMEO:", max_new_tokens=100, seed=1)))

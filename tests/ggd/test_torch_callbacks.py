"""The rate constraint in transformers' Trainer: the steps of a loop of one's own, and resumption."""

import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from ggd.torch import RateConstraint, trainer_callback  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # of transformers and accelerate


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, x, labels=None):
        return {"loss": (self.layer(x) - labels).square().mean(), "logits": self.layer(x)}


DATA = [{"x": torch.full((4,), i / 7), "labels": torch.ones(4)} for i in range(8)]


def trained(folder, steps, resume=None, lam=1e-2, every=None):
    model = Model()
    constraint = RateConstraint(model, lam, every=2)
    arguments = transformers.TrainingArguments(
        str(folder), max_steps=steps, per_device_train_batch_size=4, learning_rate=0.05, use_cpu=True, report_to=[],
        save_strategy="steps", save_steps=every or steps, disable_tqdm=True, logging_strategy="no", seed=1,
        lr_scheduler_type="constant",
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=DATA, callbacks=[trainer_callback(constraint)]
    )
    trainer.train(resume_from_checkpoint=resume)
    return model, constraint


def test_the_constraint_runs_and_resumes(tmp_path):
    model, constraint = trained(tmp_path / "a", 6, every=3)
    assert constraint.steps == 6
    state = json.loads((tmp_path / "a" / "checkpoint-3" / "rate_constraint.json").read_text())
    assert state["steps"] == 3
    free, _ = trained(tmp_path / "b", 6, lam=0.0)
    assert float(model.layer.weight.detach().abs().sum()) < float(free.layer.weight.detach().abs().sum())
    resumed, again = trained(tmp_path / "a", 6, resume=str(tmp_path / "a" / "checkpoint-3"), every=3)
    assert again.steps == 6
    assert torch.equal(resumed.layer.weight, model.layer.weight)

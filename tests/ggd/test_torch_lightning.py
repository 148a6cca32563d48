"""The rate constraint in Lightning's Trainer: the steps of a loop of one's own, and resumption."""

import pytest

torch = pytest.importorskip("torch")
lightning = pytest.importorskip("pytorch_lightning")

from ggd.torch import RateConstraint, lightning_callback  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # of Lightning: no loggers, few workers


class Module(lightning.LightningModule):
    def __init__(self, two_optimizers: bool = False):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.other = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
        self.two = two_optimizers
        self.automatic_optimization = not two_optimizers

    def training_step(self, batch):
        loss = (self.layer(batch[0]) - self.other(batch[0]) - 1).square().mean()
        if self.two:
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
        return loss

    def configure_optimizers(self):
        if self.two:
            return [torch.optim.SGD(part.parameters(), lr=0.05) for part in (self.other, self.layer)]
        return torch.optim.SGD(self.parameters(), lr=0.05)


def data():
    rows = torch.linspace(0, 1, 32).reshape(8, 4)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows), batch_size=4)


def trained(folder, epochs, resume=None, two=False, lam=1e-2):
    module = Module(two)
    constraint = RateConstraint(module.layer, lam, every=2)
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=folder, callbacks=[lightning_callback(constraint)],
    )  # fmt: skip
    trainer.fit(module, data(), ckpt_path=resume)
    trainer.save_checkpoint(folder / f"{epochs}.ckpt")
    return module, constraint


def by_hand(steps):
    module = Module()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    handle = RateConstraint(module.layer, 1e-2, every=2).attach(optimizer)
    batches = list(data())
    for step in range(steps):
        optimizer.zero_grad()
        module.training_step(batches[step % 2]).backward()
        optimizer.step()
    handle.remove()
    return module


def test_the_constraint_runs_and_resumes(tmp_path):
    module, constraint = trained(tmp_path, 3)
    assert constraint.steps == 6
    assert torch.equal(module.layer.weight, by_hand(6).layer.weight)
    free, _ = trained(tmp_path, 3, lam=0.0)
    assert not torch.equal(module.layer.weight, free.layer.weight)
    trained(tmp_path, 1)
    resumed, again = trained(tmp_path, 3, resume=tmp_path / "1.ckpt")
    assert again.steps == 6
    assert torch.equal(resumed.layer.weight, module.layer.weight)


def test_of_several_optimizers_the_one_that_holds_the_parameters(tmp_path):
    module, constraint = trained(tmp_path, 3, two=True)
    assert constraint.steps == 6
    assert torch.equal(module.layer.weight, by_hand(6).layer.weight)

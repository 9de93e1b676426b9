"""DTensors in two processes: losses and gradients agree with PyTorch's functions of the whole tensors."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.nn import functional

import xpent
import xpent.torch

pytestmark = pytest.mark.library("torch")

ROWS, CLASSES, FEATURES = 8, 6, 4
SHARDINGS = {"rows": (Shard(0), Shard(0)), "classes": (Shard(1), Replicate())}  # of logits and of class indices


def gradients(function, *arrays):
    """The value and the gradients with respect to the floating-point arrays, as whole tensors."""
    leaves = [array.detach().requires_grad_(array.is_floating_point()) for array in arrays]
    value = function(*leaves)
    value.sum().backward()
    found = [value.detach(), *[leaf.grad for leaf in leaves if leaf.requires_grad]]
    return [x.full_tensor() if isinstance(x, DTensor) else x for x in found]


def _squares(*functions):
    return [lambda x, function=function: function(x, 1).square() for function in functions]


def cases(distribute):
    """Names, functions of PyTorch and of xpent, and arrays, both distributed and whole."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    logits, labels = normal(ROWS, CLASSES), torch.arange(ROWS) % CLASSES
    q, weight = torch.softmax(normal(ROWS, CLASSES), 1), torch.rand(CLASSES, generator=generator, dtype=torch.float64)
    ignored = labels.masked_fill(torch.arange(ROWS) < 3, -100)  # ignored rows in only one of the processes
    options = [
        (labels, {}),
        (ignored, {}),
        (ignored, {"label_smoothing": 0.25}),
        (ignored, {"weight": weight}),
        (labels, {"reduction": "none"}),
        (q, {"label_smoothing": 0.25}),
    ]
    for name, (of_logits, of_indices) in SHARDINGS.items():
        for targets, given in options:
            of_targets = of_logits if targets is q else of_indices
            distributed = {k: distribute(v, Replicate()) if k == "weight" else v for k, v in given.items()}
            yield (
                f"cross_entropy, {name} sharded, {sorted(given)}, {targets.dtype}",
                lambda *arrays, given=given: functional.cross_entropy(*arrays, **given),
                lambda *arrays, given=distributed: xpent.torch.cross_entropy(*arrays, **given),
                [distribute(logits, of_logits), distribute(targets, of_targets)],
                [logits, targets],
            )
        for function in "softmax", "log_softmax", "logsumexp":
            theirs, ours = (getattr(module, function) for module in (torch, xpent.torch))
            yield f"{function}, {name} sharded", *_squares(theirs, ours), [distribute(logits, of_logits)], [logits]
    features, layer = normal(ROWS, FEATURES), normal(CLASSES, FEATURES)
    for name, shardings in {
        "rows": (Shard(0), Replicate(), Shard(0)),
        "classes": (Replicate(), Shard(0), Replicate()),
    }.items():
        arrays = features, layer, ignored
        distributed = [distribute(array, sharding) for array, sharding in zip(arrays, shardings, strict=True)]
        functions = functional.linear_cross_entropy, xpent.torch.linear_cross_entropy
        yield f"linear_cross_entropy, {name} sharded", *functions, distributed, arrays


def compare(rank, path):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))

    def distribute(x, sharding):
        return distribute_tensor(x, mesh, [sharding])

    for name, theirs, ours, distributed, whole in cases(distribute):
        expected, found = gradients(theirs, *whole), gradients(ours, *distributed)
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14, msg=lambda m, name=name: f"{name}: {m}")

    confident = torch.tensor([[100.0, 80.0, 0.0, 0.0]] * 2)
    for sharding in Shard(0), Shard(1):
        logits, labels = distribute(confident, sharding), distribute(torch.tensor([0, 4]), Replicate())
        logits.requires_grad_()
        losses = xpent.cross_entropy(logits, labels, reduction="none")
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        assert gradient.placements == (sharding,)  # the gradient is not gathered on every device
        losses = losses.full_tensor()
        assert abs(losses[0].item() / 2.0611536e-9 - 1.0) < 1e-6
        assert losses[1].isnan()  # a class index out of range
    dist.destroy_process_group()


def test_losses_and_gradients_of_sharded_tensors_agree_with_whole_tensors(tmp_path):
    torch.multiprocessing.spawn(compare, args=(tmp_path / "store",), nprocs=2)

import torch

from llm.model.linear import Linear, side_by_side


def layers() -> tuple[Linear, Linear, torch.Tensor]:
    torch.manual_seed(1)
    return Linear(8, 6), Linear(8, 4), torch.randn(3, 8)


def test_side_by_side_is_each_by_itself_and_so_are_the_gradients() -> None:
    one, other, x = layers()
    parts = side_by_side(x, one, other)
    torch.testing.assert_close(list(parts), [one(x), other(x)])
    (parts[0].sum() + parts[1].square().sum()).backward()
    joined = [one.weight.grad, other.bias.grad]
    one.zero_grad(), other.zero_grad()
    (one(x).sum() + other(x).square().sum()).backward()
    torch.testing.assert_close(joined, [one.weight.grad, other.bias.grad])


def test_a_layer_with_a_hook_is_called_by_itself() -> None:
    one, other, x = layers()
    one.register_forward_hook(lambda module, args, output: output + 1)
    hooked, plain = side_by_side(x, one, other)
    torch.testing.assert_close(hooked, torch.nn.functional.linear(x, one.weight, one.bias) + 1)
    torch.testing.assert_close(plain, other(x))


def test_weights_stay_fp32_and_get_fp32_gradients_from_bf16_products() -> None:
    one, _, x = layers()
    y = one(x.bfloat16())
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert one.weight.dtype == torch.float32
    assert one.weight.grad is not None
    assert one.weight.grad.dtype == torch.float32

"""A global order of training items that depends on the seed and the position alone."""

import numpy as np


def shuffled(n_items: int, epoch: int, seed: int) -> np.ndarray:
    """A permutation of 0..n_items-1, another one each epoch."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(n_items)


def bucketed(lengths: np.ndarray, batch: int, epoch: int, seed: int) -> list[np.ndarray]:
    """Batches of items of similar length, in shuffled order; a last short batch is left out.

    Items are shuffled, sorted by length within windows of 32 batches, and the batches
    shuffled: little padding, while a batch still mixes kinds. With fewer items than a
    batch there is one batch, filled by going round again.
    """
    order = shuffled(len(lengths), epoch, seed)
    if len(order) < batch:
        return [np.resize(order, batch)]
    window = 32 * batch
    spans = [order[start : start + window] for start in range(0, len(order), window)]
    ordered = np.concatenate([span[np.argsort(lengths[span], kind="stable")] for span in spans])
    batches = [ordered[i : i + batch] for i in range(0, len(ordered) - batch + 1, batch)]
    return [batches[i] for i in shuffled(len(batches), epoch, seed + 1)]

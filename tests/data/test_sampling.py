"""Batches of P identities with K images each."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reidlib.data.sampling import identity_batches
from reidlib.spec import ReidError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def labelled(counts, seed=0):
    """Labels of so many images an identity, in random order; the identities' numbers leave gaps."""
    labels = torch.cat([torch.full((count,), 3 * identity + 1) for identity, count in enumerate(counts)])
    return labels[torch.randperm(len(labels), generator=seeded(seed))]


@settings(max_examples=150, deadline=None)
@given(st.data(), st.lists(st.integers(1, 14), min_size=1, max_size=9), st.integers(1, 6), st.integers(0, 2**32))
def test_every_batch_has_p_identities_with_k_images_each(data, counts, per_identity, seed):
    wanted = data.draw(st.integers(1, len(counts)))
    labels = labelled(counts, seed)
    available = Counter(labels.tolist())
    batches = identity_batches(labels, wanted * per_identity, per_identity, seeded(seed))
    shown = Counter()
    for batch in batches:
        assert batch.dtype == torch.int64 and batch.shape == (wanted * per_identity,)
        identities = Counter(labels[batch].tolist())
        assert len(identities) == wanted and set(identities.values()) == {per_identity}
        for identity in identities:
            times = Counter(index for index in batch.tolist() if labels[index] == identity)
            if available[identity] >= per_identity:
                assert set(times.values()) == {1}
            else:  # every image of the identity, as evenly as it goes
                assert len(times) == available[identity] and max(times.values()) - min(times.values()) <= 1
        shown.update(set(batch.tolist()))
    assert batches and max(shown.values()) == 1, "no image in two batches of one epoch"
    # The epoch ends only when fewer than P identities have a group left; no group is ever split or given twice.
    groups = {identity: max(1, count // per_identity) for identity, count in available.items()}
    groups_shown = Counter(identity for batch in batches for identity in set(labels[batch].tolist()))
    assert all(groups_shown[identity] <= groups[identity] for identity in groups)
    assert sum(groups_shown[identity] < groups[identity] for identity in groups) < wanted


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_the_seed_alone_decides_and_the_next_epoch_differs(seed):
    labels = labelled([9, 2, 7, 5, 12, 4])
    generator = seeded(seed)
    first, second = (identity_batches(labels, 12, 4, generator) for _ in range(2))
    torch.manual_seed(seed + 1)
    again = identity_batches(labels, 12, 4, seeded(seed))
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in again]
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in second]


def test_equal_identities_are_all_shown_and_the_rest_of_an_identity_changes_from_epoch_to_epoch():
    labels = labelled([6] * 4)
    generator = seeded()
    left_out = []
    for _ in range(50):
        shown = torch.cat(identity_batches(labels, 16, 4, generator)).tolist()
        assert len(set(shown)) == 16  # one group of 4 of each identity's 6
        left_out += set(range(24)) - set(shown)
    assert len(set(left_out)) == 24
    assert max(Counter(left_out).values()) < 35  # a third of the 50 epochs expected


def test_an_identity_of_one_image_fills_its_group_with_it():
    (batch,) = identity_batches(torch.tensor([0, 1, 1]), 8, 4, seeded())
    assert Counter(batch.tolist()) == {0: 4, 1: 2, 2: 2}


def test_with_p_the_number_of_even_identities_an_epoch_shows_every_image_once():
    labels = labelled([8] * 6)
    batches = identity_batches(labels, 24, 4, seeded())
    assert len(batches) == 2 and torch.cat(batches).sort().values.tolist() == list(range(48))


@pytest.mark.parametrize("batch, per_identity, words", [
    (10, 4, "batch of 10 is not made of 4 images an identity; make it a multiple"),
    (8, 0, "batch of 8 is not made of 0 images"),
    (0, 4, "batch of 0 is not made of 4 images"),
    (16, 4, "batch of 16 with 4 images an identity needs 4 identities; there are 3: use a smaller batch"),
])  # fmt: skip
def test_batches_that_cannot_be_made_are_refused(batch, per_identity, words):
    with pytest.raises(ReidError, match=words):
        identity_batches(labelled([5, 5, 5]), batch, per_identity, seeded())

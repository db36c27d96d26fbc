"""docs/losses.md lists what there is, its links lead somewhere, its picture is what is drawn."""

import re

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.losses.conftest import LOSSES, built

PAGE = ROOT / "docs" / "losses.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture
def docs(monkeypatch):
    """scripts/docs.py, which makes the picture."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import docs

    return docs


def test_a_loss_is_listed_once_if_it_is_there(docs):
    listed = docs.listed(TEXT)
    assert len(listed) >= 20
    assert len(set(listed)) == len(listed)
    assert set(listed) <= {path.stem for path in LOSSES}


def test_every_link_leads_to_a_file_or_a_heading():
    headings = re.findall(r"^#+ (.+)$", TEXT, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) >= 5
    for link in links:
        if link.startswith("#"):
            assert link[1:] in anchors
        else:
            assert (PAGE.parent / link).is_file(), link


def test_the_yaml_in_the_page_is_the_file():
    (shown,) = re.findall(r"```yaml\n(.+?)```", TEXT, flags=re.DOTALL)
    lines = (ROOT / "docs" / "monai_dice_ce.yaml").read_text(encoding="utf-8").splitlines()
    assert shown.splitlines() == [line for line in lines if not line.startswith("#")]


def test_the_picture_is_what_is_drawn_today(docs, tmp_path):
    loss = built(ROOT / "configs" / "loss" / "shape_aware.yaml")
    docs.weight_figure(*docs.part(), loss).savefig(tmp_path / "drawn.png")
    drawn, kept = (
        np.asarray(Image.open(path).convert("RGB")).astype(int)
        for path in (tmp_path / "drawn.png", docs.PICTURE)
    )
    assert drawn.shape == kept.shape
    assert np.abs(drawn - kept).mean() < 1  # of 255: fonts may differ
    assert docs.PICTURE.stat().st_size < 150_000


def test_objects_that_are_near_have_different_colours(docs):
    _, _, instances = docs.part()
    painted = docs.painted(instances)
    for a, b in ((instances[:, :-1], instances[:, 1:]), (instances[:-1], instances[1:])):
        touching = (a > 0) & (b > 0) & (a != b)
        assert touching.sum() > 20
    side = (painted[:, :-1] == painted[:, 1:]).all(axis=2)
    assert not side[(instances[:, :-1] > 0) & (instances[:, 1:] != instances[:, :-1])].any()

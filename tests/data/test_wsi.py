"""Slides: each window is what lies there, whatever the pyramid, the mask's size and the format."""

import csv
import pickle
import sys
import tracemalloc

import numpy as np
import pytest
import slide_trees
import trees
from PIL import Image
from slide_trees import blob, save_mask, save_slide, tissue_pixels

from seglab.data import cache, check, slide_files, slides
from seglab.data.preprocess import Preprocess
from seglab.data.reading import FileFaults
from seglab.data.slide_list import Entry
from seglab.data.source import IGNORE
from seglab.data.wsi import WholeSlides
from seglab.errors import ConfigError, DataError

SPLIT = {"val": 0.34, "test": 0.33, "seed": 0}


def own(root, **changed):
    given = {
        "images": "images", "masks": "masks", "mask_suffix": "", "table": None,
        "classes": ["blob"], "zero_means_ignore": False, "split": SPLIT, "group": None,
        "window": 256, "stride": 256, "level": 0, "mpp": None,
        "tissue": {"share": 0, "downsample": 32}, "positives_only": False,
        "evaluate_positives_only": False,
    }  # fmt: skip
    return WholeSlides(str(root), **given | changed)


def everything(source):
    return [sample for split in source.splits for sample in source.samples(split)]


def one_slide(root, pixels, labels, mask=(), table=(), **options):
    """Three slides of the same pixels, one for each split, by a table."""
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    for split in ("train", "val", "test"):
        save_slide(root / f"{split}.tif", pixels, **options)
        save_mask(root / f"{split}-mask.tif", labels, **dict(mask))
        rows.append([split, split, f"{split}.tif", f"{split}-mask.tif", split])
    write_table(root / "table.csv", ["slide", "patient", "image", "mask", "split"], rows)
    return own(root, table="table.csv", **dict(table))


def write_table(path, columns, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def mosaic(source, split, shape):
    """The slide and its labels, put together again from the windows."""
    image, mask = np.zeros((*shape, 3), np.uint8), np.full(shape, 77, np.uint8)
    for sample in source.samples(split):
        top, left, rows, columns = sample.region
        place = np.s_[top : top + rows, left : left + columns]
        image[place] = source.read_image(sample)[:rows, :columns]
        mask[place] = source.read_mask(sample)[:rows, :columns]
    return image, mask


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize("kind", [{}, {"tile": None, "rowsperstrip": 48, "levels": (1,)}])
@pytest.mark.parametrize(("window", "stride"), [(256, 256), (200, 90), (1000, 500)])
def test_the_windows_are_the_slide_whole_and_in_place(tmp_path, window, stride, kind):
    pixels, labels = tissue_pixels(0), blob(label=1)
    source = one_slide(tmp_path, pixels, labels, (), {"window": window, "stride": stride}, **kind)
    for split in ("train", "val"):
        image, mask = mosaic(source, split, labels.shape)
        assert np.array_equal(image, pixels)
        assert np.array_equal(mask, labels)
    times = np.zeros(labels.shape, int)
    for sample in source.samples("test"):
        top, left, rows, columns = sample.region
        times[top : top + rows, left : left + columns] += 1
    assert (times == 1).all(), "an evaluated pixel counts once"
    ids = [sample.id for sample in everything(source)]
    assert len(set(ids)) == len(ids)


def test_beside_the_slide_a_window_is_white_and_ignored(tmp_path):
    source = one_slide(tmp_path, tissue_pixels(0), blob())
    sample = source.samples("val")[-1]
    assert (sample.id, sample.region) == ("val-r00512-c00512", (512, 512, 128, 256))
    image, mask = source.read_image(sample), source.read_mask(sample)
    assert image.shape == (256, 256, 3)
    assert mask.shape == (256, 256)
    assert (image[128:] == 255).all()
    assert (mask[128:] == IGNORE).all()
    assert (mask[:128] != IGNORE).all()


def test_what_openslide_reads_outside_or_transparent_is_white(tmp_path):
    path = save_slide(tmp_path / "a.tif", tissue_pixels(0))
    read = slide_files.open_slide(path).read(0, 600, 700, 100, 200)
    assert isinstance(slide_files.open_slide(path), slide_files.OpenSlideSlide)
    assert np.array_equal(read[:40, :68], tissue_pixels(0)[600:, 700:])
    assert (read[40:] == 255).all()
    assert (read[:, 68:] == 255).all()
    rgba = np.dstack([tissue_pixels(0), np.full((640, 768), 255, np.uint8)])
    rgba[:, :100, 3] = 0
    rgba[:, 100:200, 3] = 51  # a fifth
    path = save_slide(tmp_path / "b.tif", rgba, (1,), tile=None, rowsperstrip=64,
                      extrasamples=["unassalpha"])  # fmt: skip
    read = slide_files.open_slide(path).read(0, 0, 0, 640, 768)
    assert isinstance(slide_files.open_slide(path), slide_files.TiffSlide)
    assert (read[:, :100] == 255).all()
    faint = 255 + (rgba[:, 100:200, :3].astype(float) - 255) / 5
    assert np.abs(read[:, 100:200] - faint).max() <= 1
    assert np.array_equal(read[:, 200:], rgba[:, 200:, :3])


def test_a_grey_slide_has_three_equal_channels(tmp_path):
    grey = tissue_pixels(0)[..., 1]
    path = save_slide(tmp_path / "a.tif", grey, (1,), tile=None, photometric="minisblack")
    read = slide_files.open_slide(path).read(0, 600, 0, 50, 800)
    assert np.array_equal(read[:40, :768], np.dstack([grey[600:]] * 3))
    assert (read[40:] == 255).all()
    assert (read[:, 768:] == 255).all()


# ---------------------------------------------------------------- resolution


def test_a_level_of_the_pyramid(tmp_path):
    source = one_slide(tmp_path, tissue_pixels(0), blob(label=1), (), {"level": 1, "window": 64})
    image, mask = mosaic(source, "val", (160, 192))
    assert np.array_equal(image, tissue_pixels(0)[::4, ::4])
    assert np.array_equal(mask, blob(label=1)[2::4, 2::4]), "a pixel's label is that at its middle"
    source = own(tmp_path, table="table.csv", level=2)
    faults = [str(fault) for fault in source.layout_faults()]
    assert faults[0] == (
        "train.tif: no level 2 (dataset.level); its levels 0, 1, ... are smaller 1, 4 times"
    )
    assert len(faults) == 3


@pytest.mark.parametrize(
    ("mpp", "kept", "level"), [(0.25, 1, 0), (0.262, 1, 0), (0.97, 4, 1), (1.0, 4, 1)]
)
def test_microns_near_to_those_of_a_level_take_it_as_it_is(tmp_path, mpp, kept, level):
    slide = slide_files.open_slide(save_slide(tmp_path / "a.tif", tissue_pixels(0)))
    view = slides.view(slide, 0, mpp)
    assert (view.level, view.zoom, view.scale) == (level, 1.0, kept)
    assert (view.rows, view.columns) == (640 // kept, 768 // kept)


def test_other_microns_are_averaged_from_the_next_finer_level(tmp_path):
    settings = {"mpp": 0.5, "window": 100}
    source = one_slide(tmp_path, tissue_pixels(0), blob(label=1), (), settings)
    image, mask = mosaic(source, "val", (320, 384))
    whole = tissue_pixels(0).reshape(320, 2, 384, 2, 3).mean((1, 3))
    assert np.abs(image - whole).max() <= 1
    assert np.array_equal(mask, blob(label=1)[1::2, 1::2])
    slide = slide_files.open_slide(tmp_path / "val.tif")
    view = slides.view(slide, 0, 2.0)
    assert (view.level, view.zoom, view.scale) == (1, 2.0, 8.0)
    assert (view.rows, view.columns) == (80, 96)


def test_a_slide_that_does_not_say_its_resolution_is_a_fault_only_where_microns_are_asked(tmp_path):
    source = one_slide(tmp_path, tissue_pixels(0), blob(), mpp=None)
    assert source.layout_faults() == []
    (fault, *_) = own(tmp_path, table="table.csv", mpp=0.5).layout_faults()
    assert str(fault) == (
        "train.tif: does not say how large a pixel is, so that dataset.mpp=0.5 cannot be met. "
        "Write its resolution into the file, or set dataset.mpp=null and choose a dataset.level"
    )


def test_a_slide_coarser_than_wanted_and_pixels_that_are_no_squares_are_faults(tmp_path):
    coarse = slide_files.open_slide(save_slide(tmp_path / "a.tif", tissue_pixels(0), mpp=0.5))
    with pytest.raises(FileFaults, match=r"0\.5 microns a pixel at its finest, coarser than dat"):
        slides.view(coarse, 0, 0.25)
    long = save_slide(tmp_path / "b.tif", tissue_pixels(0), resolution=(40000, 20000))
    with pytest.raises(FileFaults, match=r"pixels of 0\.25 x 0\.5 microns, expected squares"):
        slide_files.open_slide(long)


def test_strips_say_their_resolution_too(tmp_path):
    path = save_slide(tmp_path / "a.tif", tissue_pixels(0), (1,), mpp=0.5, tile=None)
    assert slide_files.open_slide(path).mpp == pytest.approx(0.5)


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("down", [1, 2, 4, 5, 16])
def test_a_mask_of_another_size_lies_over_its_image(tmp_path, down):
    """640 x 768 pixels: 5 leaves 128 x 153.6, which is cut or rounded up by the tools."""
    small = np.random.default_rng(down).integers(0, 2, (640 // down, -(-768 // down)), np.uint8)
    source = one_slide(tmp_path, tissue_pixels(0), small)
    _, mask = mosaic(source, "val", (640, 768))
    assert np.array_equal(mask, small.repeat(down, 0).repeat(down, 1)[:640, :768])


@pytest.mark.parametrize("shape", [(160, 160), (192, 160), (640, 700)])
def test_a_mask_of_other_proportions_is_a_fault(tmp_path, shape):
    source = one_slide(tmp_path, tissue_pixels(0), np.zeros(shape, np.uint8))
    wrong = rf"val-mask\.tif: mask of {shape[0]} x {shape[1]} pixels .* of 640 x 768 at any scale"
    with pytest.raises(FileFaults, match=wrong):
        source.read_mask(source.samples("val")[0])


@pytest.mark.parametrize(
    ("image", "mask", "down"),
    [
        ((90000, 40000), (90000, 40000), 1),
        ((90001, 40003), (2812, 1250), 32),
        ((90001, 40003), (2813, 1251), 32),
        ((1000, 1000), (2000, 2000), 0.5),
        ((1000, 2000), (1000, 1000), None),
    ],
)
def test_the_scale_of_a_mask(image, mask, down):
    assert slides.mask_downsample(image, mask) == down


def test_several_classes_with_and_without_zero_as_ignored(tmp_path):
    labels = np.zeros((640, 768), np.uint8)
    labels[:, 100:], labels[:, 200:], labels[:, 300:] = 1, 2, IGNORE
    source = one_slide(tmp_path, tissue_pixels(0), labels, (), {"classes": ["a", "b", "c"]})
    assert np.array_equal(mosaic(source, "val", labels.shape)[1], labels)
    labels[labels == IGNORE] = 0
    changed = {"classes": ["a", "b"], "zero_means_ignore": True}
    source = one_slide(tmp_path / "shifted", tissue_pixels(0), labels, (), changed)
    assert np.array_equal(
        mosaic(source, "val", labels.shape)[1], np.where(labels == 0, IGNORE, labels - 1)
    )
    few = own(tmp_path / "shifted", table="table.csv", classes=["a", "b"])
    with pytest.raises(FileFaults, match=r"val-mask\.tif: labels 2 outside the classes and 255"):
        mosaic(few, "val", labels.shape)


def test_a_palette_means_its_numbers_and_a_tile_never_written_means_zero(tmp_path):
    import tifffile

    labels = (np.arange(128 * 128).reshape(128, 128) % 5).astype(np.uint8)
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256), np.uint16)
    path = save_mask(tmp_path / "a.tif", labels, photometric="palette", colormap=colours)
    everywhere = np.arange(128)
    found = slide_files.open_mask(path).at(everywhere, everywhere)[..., 0]
    assert np.array_equal(found, labels)
    tile = np.ones((64, 64), np.uint8)
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        file.write(iter([tile, None, None, tile]), shape=(128, 128), dtype="uint8", tile=(64, 64),
                   compression="zlib", metadata=None)  # fmt: skip
    found = slide_files.open_mask(tmp_path / "b.tif").at(everywhere, everywhere)[..., 0]
    assert np.array_equal(found, np.kron(np.eye(2, dtype=np.uint8), tile))


@pytest.mark.parametrize("predictor", [1, 2])
def test_lzw_is_read_without_another_package(tmp_path, predictor):
    labels = np.random.default_rng(0).integers(0, 3, (150, 90), np.uint8)
    path, strips = tmp_path / "a.tif", {278: 40, 317: predictor}  # the last one is of 30 rows
    Image.fromarray(labels).save(path, compression="tiff_lzw", tiffinfo=strips)
    mask = slide_files.open_mask(path)
    assert mask.piece == (40, 90)
    rows, columns = np.array([0, 39, 40, 149]), np.array([3, 89])
    assert np.array_equal(mask.at(rows, columns)[..., 0], labels[np.ix_(rows, columns)])


def test_a_mask_whose_labels_would_be_misread_is_refused(tmp_path, monkeypatch):
    labels = blob()
    colour = save_mask(tmp_path / "colour.tif", np.dstack([labels] * 3), photometric="rgb")
    with pytest.raises(FileFaults, match=r"RGB mask of 3 channels, expected 8 bit grey"):
        slide_files.open_mask(colour)
    inverse = save_mask(tmp_path / "inverse.tif", labels, photometric="miniswhite")
    with pytest.raises(FileFaults, match="MINISWHITE mask"):
        slide_files.open_mask(inverse)
    deep = save_mask(tmp_path / "deep.tif", labels.astype(np.uint16))
    with pytest.raises(FileFaults, match="uint16 pixels, expected 8 bits"):
        slide_files.open_mask(deep)
    Image.fromarray(labels).save(tmp_path / "lossy.tif", compression="jpeg")
    with pytest.raises(FileFaults, match="compressed as JPEG, which changes labels"):
        slide_files.open_mask(tmp_path / "lossy.tif")
    Image.fromarray(labels).save(tmp_path / "a.png")
    with pytest.raises(FileFaults, match="no TIFF file. A mask must be one"):
        slide_files.open_mask(tmp_path / "a.png")
    (tmp_path / "empty.tif").write_bytes(b"")
    with pytest.raises(FileFaults, match=r"empty file \(0 bytes\)"):
        slide_files.open_mask(tmp_path / "empty.tif")
    monkeypatch.setattr(slide_files, "PIECE_BYTES", 300_000)
    one_piece = save_mask(tmp_path / "piece.tif", labels, tile=None, rowsperstrip=640)
    with pytest.raises(FileFaults, match="stored in pieces of 0 MiB.*Save it in tiles, as `vips"):
        slide_files.open_mask(one_piece)


def test_a_compression_that_needs_a_package_names_it(tmp_path, monkeypatch):
    slide = slide_files.open_slide(
        save_slide(tmp_path / "a.tif", tissue_pixels(0), (1,), tile=None)
    )

    def decode(*_, **__):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(slide._planes[0], "_page_decode", decode)
    with pytest.raises(FileFaults, match="imagecodecs.*: pip install imagecodecs, or save it"):
        slide.read(0, 0, 0, 10, 10)


# ---------------------------------------------------------------- tissue and positives


def test_windows_without_tissue_are_left_out_of_every_split(tmp_path):
    """The tissue is rows 160 .. 480 and columns 192 .. 576; the windows are of 64 pixels."""
    tissue = {"share": 0.5, "downsample": 8}
    settings = {"tissue": tissue, "window": 64, "stride": 64}
    source = one_slide(tmp_path, tissue_pixels(0), blob(), (), settings)
    wanted = {
        (top, left, 64, 64)
        for top in range(0, 640, 64)
        for left in range(0, 768, 64)
        if 160 - 32 <= top <= 480 - 32 and 192 <= left < 576
    }
    for split in source.splits:
        assert {sample.region for sample in source.samples(split)} == wanted
    coarse = own(tmp_path, table="table.csv", window=16, stride=16, tissue=tissue, level=1)
    regions = {tuple(4 * n for n in sample.region) for sample in coarse.samples("val")}
    assert regions == wanted
    all_of_it = own(tmp_path, table="table.csv", window=64, stride=64,
                    tissue=tissue | {"share": 1})  # fmt: skip
    regions = {sample.region for sample in all_of_it.samples("val")}
    assert regions == {region for region in wanted if 160 <= region[0] <= 416}


def test_tissue_is_found_in_blocks_as_in_one_piece(tmp_path, monkeypatch):
    slide = slide_files.open_slide(save_slide(tmp_path / "a.tif", tissue_pixels(0), (1,)))
    whole, step = slides.tissue(slide, 20)
    assert (whole.shape, step) == ((32, 38), 20)
    monkeypatch.setattr(slides, "BLOCK", 100)
    blocks, _ = slides.tissue(slide, 20)
    assert np.array_equal(whole, blocks)
    assert whole[8:24, 10:28].all()
    assert whole.sum() <= 17 * 20


def test_tissue_is_what_has_strong_colours_whatever_its_hue_and_brightness(tmp_path):
    pixels = np.empty((64, 256, 3), np.uint8)
    for number, colour in enumerate([(250, 238, 246), (60, 58, 61), (190, 90, 150), (60, 25, 50)]):
        pixels[:, 64 * number : 64 * number + 64] = colour  # all about the same hue
    slide = slide_files.open_slide(save_slide(tmp_path / "a.tif", pixels, (1,)))
    found, _ = slides.tissue(slide, 8)
    assert np.array_equal(found, np.arange(32)[None].repeat(8, 0) >= 16)


def test_a_share_is_that_of_the_marks_under_a_region():
    marked = np.zeros((10, 10), bool)
    marked[2:5, 3:7] = True
    regions = np.array([[0, 0, 100, 100], [20, 30, 30, 40], [20, 30, 60, 40], [95, 95, 5, 5]])
    assert slides.shares(marked, regions, 10).tolist() == [0.12, 1, 0.5, 0]


def test_a_slide_without_tissue_is_a_fault_that_names_the_option(tmp_path):
    glass = np.full((640, 768, 3), 250, np.uint8)
    source = one_slide(tmp_path, glass, blob(), (), {"tissue": {"share": 0.1, "downsample": 32}})
    (fault, *_) = source.layout_faults()
    assert str(fault).startswith(
        "train.tif: no window with so much tissue (dataset.tissue.share=0.1; the most is 0). "
    )


def test_a_slide_without_a_small_level_is_told_to_be_slow(tmp_path, monkeypatch, caplog):
    slide = slide_files.open_slide(save_slide(tmp_path / "a.tif", tissue_pixels(0), (1,)))
    slides.tissue(slide, 32)
    assert not caplog.records
    monkeypatch.setattr(slides, "MANY_PIXELS", 640 * 768 - 1)
    slides.tissue(slide, 32)
    assert "a.tif has no level of few pixels" in caplog.text
    assert "dataset.tissue.share=0" in caplog.text


def test_positives_alone_are_for_training_unless_evaluation_is_named(tmp_path, caplog):
    source = one_slide(tmp_path, tissue_pixels(0), blob(), (), {"window": 128, "stride": 128})
    assert not caplog.records
    counts = {split: len(source.samples(split)) for split in source.splits}
    assert counts == dict.fromkeys(source.splits, 30)
    same = {"table": "table.csv", "window": 128, "stride": 128}
    source = own(tmp_path, **same, positives_only=True)
    assert "trained on windows with foreground alone" in caplog.text
    assert "val and test have both kinds" in caplog.text
    assert all((source.read_mask(s) == 1).any() for s in source.samples("train"))
    # the blob: rows 213 .. 319, columns 256 .. 383
    assert [s.region[:2] for s in source.samples("train")] == [(128, 256), (256, 256)]
    assert [len(source.samples(split)) for split in ("val", "test")] == [30, 30]
    caplog.clear()
    source = own(tmp_path, **same, evaluate_positives_only=True)
    assert "precision and false positive rate mean nothing" in caplog.text
    assert [len(source.samples(split)) for split in source.splits] == [30, 2, 2]


def test_of_several_classes_background_and_ignored_pixels_are_not_positive(tmp_path):
    labels = np.zeros((640, 768), np.uint8)
    labels[:128], labels[-1, -1] = IGNORE, 1
    settings = {"classes": ["a", "b"], "window": 128, "stride": 128, "positives_only": True}
    source = one_slide(tmp_path, tissue_pixels(0), labels, (), settings)
    assert [s.region[:2] for s in source.samples("train")] == [(512, 640)]


# ---------------------------------------------------------------- which slides


def test_all_slides_of_a_patient_are_in_one_split(tmp_path):
    source = own(slide_trees.wsi(tmp_path), group="^(p[0-9]+)_")
    patients = [{s.id.split("_")[0] for s in source.samples(split)} for split in source.splits]
    assert [len(found) for found in patients] == [1, 1, 1]
    assert len(set.union(*patients)) == 3
    with pytest.raises(DataError, match=r"dataset\.group=\^\(q\): finds nothing in p0_0"):
        own(tmp_path, group="^(q)").samples("train")


def test_a_table_names_slides_patients_and_files(tmp_path):
    slide_trees.wsi(tmp_path)
    names = [f"p{n // 2}_{n % 2}" for n in range(6)]
    columns = ["slide", "patient", "image", "mask"]
    rows = [[f"s{name}", name[:2], f"images/{name}.tif", f"masks/{name}.tif"] for name in names]
    rows[0][3] = ""  # healthy
    write_table(tmp_path / "t.csv", columns, rows)
    source = own(tmp_path, table="t.csv")
    patients = [{s.id.split("_")[0] for s in source.samples(split)} for split in source.splits]
    assert sorted(map(sorted, patients)) == [["sp0"], ["sp1"], ["sp2"]]
    found = {s.id[:5]: source.read_mask(s) for s in everything(source) if "r00000-c00256" in s.id}
    assert len(found) == 6
    assert {name for name, mask in found.items() if not (mask == 1).any()} == {"sp0_0"}
    healthy = next(s for s in everything(source) if s.id.startswith("sp0_0"))
    assert healthy.files == (tmp_path / "images" / "p0_0.tif",)
    assert check.verdict(source, tmp_path / "cache", trees.quiet).faults == ()


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "must have the columns slide, patient, image, mask, and rows"),
        ([["a", "p", "a.tif", "m.tif", "tset"]], "line 2: split 'tset', expected train, val or te"),
        ([["a", "", "a.tif", "m.tif", "val"]], "line 2: no patient"),
        ([["a", "p", "a.tif", "", "val"]] * 2, "line 3: slide a a second time"),
        ([["a", "p", "/a.tif", "", "val"]], r"line 2: image /a\.tif lies outside dataset\.root="),
        (
            [["a", "p", "a.tif", "", "val"], ["b", "p", "b.tif", "", "test"]],
            "line 3: patient p is in val and test. Choose one",
        ),
    ],
)
def test_a_table_that_says_nonsense_is_refused_by_line(tmp_path, rows, match):
    write_table(tmp_path / "t.csv", ["slide", "patient", "image", "mask", "split"], rows)
    with pytest.raises(DataError, match=rf"t\.csv.*{match}"):
        own(tmp_path, table="t.csv").samples("train")


def test_of_several_classes_each_slide_needs_a_mask(tmp_path):
    columns = ["slide", "patient", "image", "mask", "split"]
    write_table(tmp_path / "t.csv", columns, [["a", "p", "a.tif", "", "val"]])
    with pytest.raises(DataError, match=r"t\.csv, line 2: no mask"):
        own(tmp_path, table="t.csv", classes=["a", "b"]).samples("train")
    with pytest.raises(DataError, match=r"u\.csv: cannot be read \(No such file"):
        own(tmp_path, table="u.csv").samples("train")


def test_folders_that_cannot_be_paired_are_told(tmp_path):
    slide_trees.wsi(tmp_path)
    with pytest.raises(DataError, match="no folder scans"):
        own(tmp_path, images="scans").samples("train")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no file in none"):
        own(tmp_path, masks="none").samples("train")
    (tmp_path / "images" / "p0_0.svs").write_bytes(b"")
    with pytest.raises(DataError, match=r"two files of one name: p0_0\.svs and p0_0\.tif"):
        own(tmp_path).samples("train")


# ---------------------------------------------------------------- check, prepare, processes


def test_every_fault_is_told_at_once(tmp_path):
    slide_trees.wsi(tmp_path)
    images, masks = tmp_path / "images", tmp_path / "masks"
    (images / "p0_0.tif").write_bytes((images / "p0_0.tif").read_bytes()[:3000])
    (images / "p0_1.tif").write_bytes(b"no slide")
    (masks / "p1_0.tif").rename(masks / "other.tif")
    save_mask(masks / "p1_1.tif", blob()[:, :500])
    save_mask(masks / "p2_0.tif", np.dstack([blob()] * 3), photometric="rgb")
    found = check.verdict(own(tmp_path), tmp_path / "cache", trees.quiet).faults
    faults = {fault.path: fault.reason for fault in found}
    assert len(found) == len(faults) == 6, "one for each file, however many windows it has"
    assert "damaged" in faults["images/p0_0.tif"] or "neither" in faults["images/p0_0.tif"]
    assert faults["images/p0_1.tif"].startswith("neither a slide that OpenSlide reads nor a TIFF")
    assert faults["masks/other.tif"] == "no image for it"
    assert faults["masks/p1_0.tif"] == "missing"
    assert faults["masks/p1_1.tif"].startswith("mask of 640 x 500 pixels")
    assert faults["masks/p2_0.tif"].startswith("RGB mask of 3 channels")


@pytest.mark.parametrize("name", ["val.tif", "val-mask.tif"])
def test_a_damaged_tile_is_a_fault(tmp_path, name):
    import tifffile

    source = one_slide(tmp_path, tissue_pixels(0), blob())
    assert source.layout_faults() == []
    with tifffile.TiffFile(tmp_path / name) as file:
        page = file.pages[0]
        start, count = page.dataoffsets[50], page.databytecounts[50]
    raw = bytearray((tmp_path / name).read_bytes())
    raw[start : start + count] = bytes(count)
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(FileFaults, match=rf"{name}: damaged"):
        mosaic(source, "val", (640, 768))


def test_prepared_windows_are_those_of_the_files(tmp_path):
    tissue = {"share": 0.1, "downsample": 8}
    source = own(slide_trees.wsi(tmp_path / "data"), tissue=tissue, positives_only=True)
    size = Preprocess(None, "none")
    verdict = check.require_clean(source, tmp_path, trees.quiet)
    assert verdict.shapes == ((256, 256),)
    cache.prepare(source, size, tmp_path, verdict, trees.quiet)
    split = cache.open_split(source, size, tmp_path, verdict, "train")
    assert isinstance(split, cache.PreparedSplit)
    for index, sample in enumerate(source.samples("train")):
        assert np.array_equal(split[index][0], source.read_image(sample))
        assert np.array_equal(split[index][1], source.read_mask(sample))
    other = own(tmp_path / "data", tissue=tissue, positives_only=True, level=1)
    assert check.source_key(other) != check.source_key(source)


def test_a_worker_gets_no_open_files_and_lists_the_same(tmp_path):
    source = own(slide_trees.wsi(tmp_path))
    samples = everything(source)
    source.read_mask(samples[0])
    clone = pickle.loads(pickle.dumps(source))
    assert "_listed" not in vars(clone)
    assert "by_split" not in vars(clone.slide_list)
    assert everything(clone) == samples


def test_an_open_file_serves_neither_a_fork_nor_a_changed_file(tmp_path, monkeypatch):
    path = save_slide(tmp_path / "a.tif", tissue_pixels(0))
    first = slide_files.open_slide(path)
    assert slide_files.open_slide(path) is first
    monkeypatch.setattr(slide_files.os, "getpid", lambda: -1)
    forked = slide_files.open_slide(path)
    assert forked is not first
    save_slide(path, tissue_pixels(1))
    read = slide_files.open_slide(path).read(0, 0, 0, 640, 768)
    assert np.array_equal(read, tissue_pixels(1))


def test_a_window_of_a_large_slide_decodes_the_tiles_that_it_touches(tmp_path, monkeypatch):
    """4096 x 8192 pixels in tiles of 256: level 0 would take 96 MiB, and its mask 32."""
    source = own(
        slide_trees.large(tmp_path), window=512, tissue={"share": 0.5, "downsample": 32},
        split={"val": 0.1, "test": 0.1, "seed": 0},
    )  # fmt: skip
    files = tmp_path / "images" / "large.tif", tmp_path / "masks" / "large.tif"
    decoded = []
    monkeypatch.setattr(
        slide_files.Plane,
        "_piece",
        lambda plane, i, j, piece=slide_files.Plane._piece: (
            decoded.append((i, j)) or piece(plane, i, j)
        ),
    )
    tracemalloc.start()
    samples = source._windows("val", Entry("large", "large", files))
    for sample in samples[:5]:
        source.read_image(sample)
        source.read_mask(sample)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(samples) == 4 * 4
    assert peak_bytes < 24 << 20
    assert len(decoded) == 5 * 4, "a window of 512 on four tiles of 256"
    assert decoded[:4] == [(4, 8), (4, 9), (5, 8), (5, 9)]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("package", ["openslide", "tifffile"])
def test_without_the_packages_the_extra_is_named(tmp_path, monkeypatch, package):
    source = one_slide(tmp_path, tissue_pixels(0), blob())
    samples = source.samples("val")
    monkeypatch.setitem(sys.modules, package, None)
    slide_files._open_slide.cache_clear()
    slide_files._open_mask.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[slides\]'"):
        source.read_mask(samples[0])


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"classes": []}, r"dataset\.classes=\[\]"),
        ({"zero_means_ignore": True}, "of one class, 0 is the background"),
        ({"group": "("}, r"dataset\.group=\(: no regular expression"),
        ({"window": 0}, r"dataset\.window=0: must be a number of pixels"),
        ({"stride": 0.5}, r"dataset\.stride=0\.5: must be a number of pixels"),
        ({"level": -1}, r"dataset\.level=-1: must be 0"),
        ({"mpp": 0}, r"dataset\.mpp=0: must be microns"),
        ({"mpp": 0.5, "level": 1}, r"dataset\.level=1 and dataset\.mpp=0\.5: one of them"),
        ({"tissue": {"share": 2, "downsample": 32}}, r"dataset\.tissue=.*share must be between"),
        ({"tissue": {"share": 0.1, "downsample": 0}}, "downsample above 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, changed, match):
    with pytest.raises(ConfigError, match=match):
        own(tmp_path, **changed)


def test_a_window_that_would_be_padding_for_the_most_part_is_a_fault(tmp_path):
    root = trees.wsi(tmp_path / "slides")
    faults = own(root, window=1600, stride=1600).layout_faults()
    assert faults
    assert all("640 x 768 pixels, so that dataset.window=1600 would" in str(f) for f in faults)
    assert not own(root, window=1000, stride=1000).layout_faults()


def test_a_class_without_its_brackets_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset\.classes=tumour: must be a list: \[tumour\]"):
        own(trees.wsi(tmp_path / "slides"), classes="tumour")

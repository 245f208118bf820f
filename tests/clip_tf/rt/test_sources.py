"""Samples from CSV files, tar shards and RLDS episodes: whole, repeatable, and none in both parts."""

import io
import tarfile

import numpy as np
import pytest
import tensorflow as tf
import webdataset as wds
from PIL import Image

from clip_tf.rt import samples, shard_index
from clip_tf.rt.csv_data import Row, open_csv, read_rows, write_rows
from clip_tf.rt.recorded_supervision import ActionLayout
from clip_tf.rt.rlds_data import open_rlds_samples
from clip_tf.rt.vocabulary import make_vocabulary
from clip_tf.rt.webdataset_data import open_webdataset, read_shard
from episodes import splits
from episodes.rlds import RldsSplit
from tests.clip_tf.rt.clip_rt_data import VOCABULARY, picture, png, write_csv, write_episodes


def write_shards(folder, episodes=10, name="a"):
    path = folder / name / "shard-000000.tar"
    path.parent.mkdir(parents=True)
    with wds.TarWriter(str(path), encoder=False) as writer:
        for e in range(episodes):
            for t in range(4):
                writer.write(
                    {
                        "__key__": f"{name}{e}-{t:03d}",
                        "jpg": png(picture(t)),
                        "txt": b"do it",
                        "sup": VOCABULARY.phrases[t].encode(),
                        "cls": str(t).encode(),
                    }
                )
    return folder


def opened(kind, folder):
    if kind == "csv":
        return open_csv(write_csv(folder), 4, validation_fraction=0.3)
    if kind == "webdataset":
        return open_webdataset(write_shards(folder), 4, validation_fraction=0.3)
    return open_rlds_samples(write_episodes(folder), VOCABULARY, validation_episodes=2)


def read(source, part, seed=None, epoch=0):
    return list(source.samples(part, seed=seed, epoch=epoch).as_numpy_iterator())


@pytest.mark.parametrize("kind", ["csv", "webdataset", "rlds"])
def test_every_source_gives_the_same_kind_of_samples(kind, tmp_path):
    source = opened(kind, tmp_path)
    parts = {part: read(source, part) for part in samples.PARTS}
    for part, found in parts.items():
        assert found
        counts = np.bincount([s["label"] for s in found], minlength=4)
        np.testing.assert_array_equal(counts, source.counts(part))
        for sample in found:
            found_image = np.asarray(Image.open(io.BytesIO(sample["image"])))
            np.testing.assert_array_equal(found_image, picture_of(kind, sample))
            assert sample["instruction"]
            assert sample["supervision"].decode() == VOCABULARY.phrases[sample["label"]]
    ids = [{s["id"] for s in found} for found in parts.values()]
    assert not ids[0] & ids[1]
    separator = {"csv": b"/", "webdataset": b"-", "rlds": b"@"}[kind]
    episodes = [{i.removesuffix(b":0").rpartition(separator)[0] for i in part} for part in ids]
    assert all(episodes)
    assert not episodes[0] & episodes[1]  # Whole episodes are held out.


def picture_of(kind, sample):
    """The image that belongs to a sample, by its name."""
    name, label = sample["id"].decode(), int(sample["label"])
    if kind == "csv":
        return picture(label, seed=int(name.rpartition("/")[2].removesuffix(".png")))
    if kind == "webdataset":
        return picture(label)
    episode, step = name.removeprefix("e").split("@")
    return picture(label, seed=10 * int(episode) + int(step))


@pytest.mark.parametrize("kind", ["csv", "webdataset", "rlds"])
def test_an_order_is_named_by_seed_and_epoch(kind, tmp_path):
    source = opened(kind, tmp_path)

    def order(seed, epoch):
        return [s["id"] for s in read(source, samples.TRAIN, seed, epoch)]

    first = order(1, 0)
    assert first == order(1, 0)
    assert sorted(first) == sorted(order(1, 1)) == sorted(s["id"] for s in read(source, samples.TRAIN))
    assert first != order(1, 1)
    assert first != order(2, 0)
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("kind", ["csv", "webdataset", "rlds"])
def test_an_unknown_part(kind, tmp_path):
    with pytest.raises(ValueError, match="part must be one of"):
        opened(kind, tmp_path).samples("test", seed=None, epoch=0)


def test_rlds_wordings_are_drawn_in_training_only(tmp_path):
    source = open_rlds_samples(write_episodes(tmp_path), make_vocabulary("pretrained"), validation_episodes=2)
    plain = {s["supervision"] for s in read(source, samples.TRAIN)}
    assert plain == {p.encode() for p in make_vocabulary("pretrained").phrases} & plain
    drawn = {s["supervision"] for epoch in range(3) for s in read(source, samples.TRAIN, 0, epoch)}
    assert len(drawn) > 3 * len(plain)
    again = [s["supervision"] for s in read(source, samples.TRAIN, 0, 1)]
    assert again == [s["supervision"] for s in read(source, samples.TRAIN, 0, 1)]


def test_rlds_of_another_layout(tmp_path):
    folder = write_episodes(tmp_path)
    with pytest.raises(ValueError, match="episode 'e0'.*must hold at least 8 numbers"):
        open_rlds_samples(folder, VOCABULARY, validation_episodes=2, layout=ActionLayout(gripper_index=7))
    with pytest.raises(ValueError, match="no step feature"):
        open_rlds_samples(folder, VOCABULARY, image_key="observation/other")


def test_rlds_is_read_once_before_the_training(tmp_path, monkeypatch):
    """With its images, which lie among the actions: a pass over a large data set takes long."""
    folder, asked, real = write_episodes(tmp_path), [], RldsSplit.read
    monkeypatch.setattr(
        RldsSplit, "read", lambda self, paths, **how: (asked.append(paths), real(self, paths))[1]
    )
    opened = open_rlds_samples(folder, VOCABULARY, validation_episodes=2)
    assert [paths for paths in asked if paths] == [["language_instruction", "action"]]
    assert len(opened.held_out) == 2


def test_rlds_that_says_nothing(tmp_path):
    layout = ActionLayout(first_step=4, gripper_path=None)  # Of the step that moves nothing.
    with pytest.raises(ValueError, match="part 'train' must have a step that says a class"):
        open_rlds_samples(write_episodes(tmp_path), VOCABULARY, validation_episodes=2, layout=layout)


def test_rlds_fingerprint_tells_what_matters(tmp_path):
    folder = write_episodes(tmp_path)

    def fingerprint(**changes):
        arguments = {"validation_episodes": 2, **changes}
        return open_rlds_samples(folder, VOCABULARY, **arguments).fingerprint

    assert fingerprint() == fingerprint()
    changed = [fingerprint(salt="x"), fingerprint(layout=ActionLayout(last_step_has_action=False))]
    assert len({fingerprint(), *changed}) == 3
    before = fingerprint()
    other = write_episodes(tmp_path / "other", instruction="tidy")
    sizes = [[f.stat().st_size for f in sorted(d.glob("*.tfrecord*"))] for d in (folder, other)]
    assert sizes[0] == sizes[1]
    folder = other
    assert fingerprint() != before


# === CSV ===


def test_csv_of_another_vocabulary(tmp_path):
    path = write_csv(tmp_path, 8)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *[line.replace("go ahead,1", "Go  ahead,3") for line in lines[1:]]]))
    assert open_csv(path, 4, validation_fraction=0.3)
    with pytest.raises(ValueError, match="line 3: 'Go  ahead' is class 1 of the vocabulary.*label 3"):
        open_csv(path, 4, vocabulary=VOCABULARY, validation_fraction=0.3)


def test_csv_in_two_files(tmp_path):
    train, held_out = write_csv(tmp_path, 8), write_csv(tmp_path, 4, "val")
    source = open_csv(train, 4, validation_file=held_out)
    assert [len(source.rows(part)) for part in samples.PARTS] == [8, 4]
    with pytest.raises(ValueError, match="4 in both"):
        open_csv(held_out, 4, validation_file=held_out)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ValueError, "columns"),
        ("filepath,caption,label\n", ValueError, "columns.*supervision"),
        ("filepath,caption,supervision,label\n", ValueError, "must have examples"),
        ("filepath,caption,supervision,label\na.png,b,c,0\n", FileNotFoundError, "line 2: there is no such"),
        ("filepath,caption,supervision,label\ntrain.csv,b,c,x\n", ValueError, "line 2: the label.*'x'"),
        ("filepath,caption,supervision,label\ntrain.csv,b,c,4\n", ValueError, r"\[0, 4\).*Received: 4"),
        ("filepath,caption,supervision,label\ntrain.csv,b,c,1_0\n", ValueError, "must be an integer"),
        ("filepath,caption,supervision,label\ntrain.csv,b,c," + "9" * 99 + "\n", ValueError, "an integer"),
        ('filepath,caption,supervision,label\n"' + "x" * 200_000, ValueError, "train.csv must be a CSV"),
        ("filepath,caption,supervision,label\n\udcdf.png,b,c,0\n", ValueError, "train.csv must be UTF-8"),
        ("filepath,caption,supervision,label\ntrain.csv,b,,1\n", ValueError, "line 2 must have a value"),
        ("filepath,caption,supervision,label\ntrain.csv,b,c,1,2\n", ValueError, "line 2 must have a value"),
    ],
)
def test_wrong_csv(tmp_path, text, error, message):
    path = tmp_path / "train.csv"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(error, match=message):
        open_csv(path, 4)


def test_csv_fingerprint_tells_of_an_image(tmp_path):
    path = write_csv(tmp_path)
    before = open_csv(path, 4, validation_fraction=0.3).fingerprint
    assert open_csv(path, 4, validation_fraction=0.3).fingerprint == before
    image = tmp_path / "train_0" / "0.png"
    content = bytearray(image.read_bytes())
    content[-20] ^= 1  # Of the same size.
    image.write_bytes(content)
    assert open_csv(path, 4, validation_fraction=0.3).fingerprint != before


def test_a_csv_that_names_an_image_in_two_ways(tmp_path):
    """However it is named, an image is in one part."""
    (tmp_path / "data").mkdir()
    lines = ["filepath,caption,supervision,label"]
    for i in range(12):
        (tmp_path / "data" / f"{i}.png").write_bytes(png(picture(0, seed=i)))
        lines += [f"{i}.png,a,b,0", f"../data/{i}.png,a,b,0"]
    path = tmp_path / "data" / "train.csv"
    path.write_text("\n".join(lines))
    source = open_csv(path, 4, validation_fraction=0.3)
    parts = [{row.filepath.resolve() for row in source.rows(part)} for part in samples.PARTS]
    assert [len(source.rows(part)) for part in samples.PARTS] == [2 * len(found) for found in parts]
    assert not parts[0] & parts[1]
    (tmp_path / "data" / "link").symlink_to(tmp_path / "data", target_is_directory=True)
    path.write_text("\n".join([lines[0], *lines[1::2], *[f"link/{line}" for line in lines[1::2]]]))
    half = {"val": 0.5, "train": 0.5}
    salt = next(
        s for s in "abcdefgh" if len({splits.split_by_hash(name, half, s) for name in (".", "link")}) > 1
    )
    with pytest.raises(ValueError, match=r"train\.csv: an image must be in one part only.*12 in both"):
        open_csv(path, 4, validation_fraction=0.5, salt=salt)


def test_names_of_images_keep_their_blanks(tmp_path):
    rows = [Row(tmp_path / name, "a", "b", 0) for name in (" lead.png", "trail.png ", "plain.png")]
    for row in rows:
        row.filepath.write_bytes(png(picture(0)))
    write_rows(tmp_path / "t.csv", rows)
    assert read_rows(tmp_path / "t.csv", 4) == rows
    (tmp_path / "t.csv").write_text("filepath,caption,supervision,label\n plain.png , a , b , 0\n")
    assert read_rows(tmp_path / "t.csv", 4) == rows[2:]


@pytest.mark.parametrize("fraction", [float("nan"), -0.1, 1.1])
def test_a_share_that_is_none(tmp_path, fraction):
    with pytest.raises(ValueError, match=r"validation_fraction must be in \[0, 1\]"):
        open_csv(write_csv(tmp_path, 4), 4, validation_fraction=fraction)
    with pytest.raises(ValueError, match=r"validation_fraction must be in \[0, 1\]"):
        open_webdataset(write_shards(tmp_path), 4, validation_fraction=fraction)
    with pytest.raises(ValueError, match=r"validation_fraction must be in \[0, 1\]"):
        open_rlds_samples(tmp_path, VOCABULARY, validation_fraction=fraction)


# === Shards ===


@pytest.mark.parametrize("damage", ["cut", "cut in a header", "header", "tail", "zeros", "more"])
def test_shards_that_are_not_whole(tmp_path, damage):
    """Readers of tar files stop without a word where a header is damaged or the file was cut."""
    path = sorted(write_shards(tmp_path).rglob("*.tar"))[0]
    content = bytearray(path.read_bytes())
    assert len(list(read_shard(path, 4))) > 4
    with tarfile.open(path) as file:
        member = file.getmembers()[8]
    if damage == "cut":
        del content[member.offset :]
    elif damage == "cut in a header":
        del content[member.offset + 100 :]
    elif damage == "header":
        content[member.offset + 10 : member.offset + 20] = b"\xff" * 10
    elif damage == "tail":
        content[member.offset + 100 :] = bytes(len(content) - member.offset - 100)
    elif damage == "zeros":
        content = bytes(len(content))
    else:
        content.extend(bytes(content))
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path.name} must be a whole tar file"):
        list(read_shard(path, 4))


def test_weights_repeat_the_shards_of_a_folder(tmp_path):
    write_shards(tmp_path)
    write_shards(tmp_path, name="b")
    once = open_webdataset(tmp_path, 4, validation_fraction=0.3)
    twice = open_webdataset(tmp_path, 4, validation_fraction=0.3, weights={"b": 2})
    of_b = sum(s["id"].startswith(b"b/") for s in read(once, samples.TRAIN))
    assert of_b
    assert len(read(twice, samples.TRAIN)) == len(read(once, samples.TRAIN)) + of_b
    assert twice.counts(samples.TRAIN).sum() == len(read(twice, samples.TRAIN))
    assert len(read(twice, samples.VALIDATION)) == len(read(once, samples.VALIDATION))
    half = open_webdataset(tmp_path, 4, validation_fraction=0.3, weights={"a": 0.5, "b": 0.0})
    drawn = [{s["id"] for s in read(half, samples.TRAIN, 0, epoch)} for epoch in range(8)]
    assert not half.is_fixed
    assert once.is_fixed
    assert len({frozenset(d) for d in drawn}) > 1
    assert np.mean([len(d) for d in drawn]) == pytest.approx(half.counts(samples.TRAIN).sum(), rel=0.2)
    (tmp_path / "mixture.json").write_text('{"weights": {"a": 1, "b": 2}}')
    assert open_webdataset(tmp_path, 4, validation_fraction=0.3).fingerprint == twice.fingerprint
    with pytest.raises(ValueError, match="weights must be.*'c'"):
        open_webdataset(tmp_path, 4, weights={"c": 2})


def tar_of(path, entries):
    with tarfile.open(path, "w") as tar:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


WHOLE = {"s.jpg": b"x", "s.txt": b"do it", "s.sup": b"go up", "s.cls": b"2"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"s.sup": None}, r"sample 's' must have jpg.*Received: \['cls', 'jpg', 'txt'\]"),
        ({"s.jpg": None}, "must have jpg"),
        ({"s.cls": b"two"}, "label must be an integer"),
        ({"s.cls": b"9"}, r"\[0, 4\)"),
        ({"s.txt": b"\xff\xfe"}, "UTF-8"),
        ({"s.txt": b"  "}, "must not be empty"),
        ({**dict.fromkeys(WHOLE), "s.1.jpg": b"x", "s.1.cls": b"2"}, "first dot.*'1.cls', '1.jpg'"),
        ({"s.JPG": b"x"}, r"x\.tar must have each file once. Received: s\.JPG: duplicate file name"),
    ],
)
def test_wrong_samples(tmp_path, changes, message):
    entries = {name: data for name, data in {**WHOLE, **changes}.items() if data is not None}
    with pytest.raises(ValueError, match=message):
        list(read_shard(tar_of(tmp_path / "x.tar", entries), 4))


def test_whole_and_broken_shards(tmp_path):
    path = tar_of(tmp_path / "x.tar", {**WHOLE, "t.jpg": b"y" * 5000})
    with pytest.raises(ValueError, match="sample 't'"):
        list(read_shard(path, 4))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(ValueError, match="whole tar file"):
        list(read_shard(path, 4))
    path.write_bytes(b"no tar at all" * 100)
    with pytest.raises(ValueError, match="whole tar file"):
        list(read_shard(path, 4))


def test_a_folder_without_shards(tmp_path):
    with pytest.raises(FileNotFoundError, match=".tar files"):
        open_webdataset(tmp_path, 4)


def change(shard, suffix):
    """Changes a byte of the first file of a kind in place: the shard keeps its size."""
    with tarfile.open(shard) as file:
        member = next(m for m in file.getmembers() if m.name.endswith(suffix))
    content = bytearray(shard.read_bytes())
    last = member.offset_data + member.size - 1
    content[last] = ord("3") if suffix == ".cls" else content[last] ^ 1
    shard.write_bytes(content)


# A label, its wording, a pixel.
KINDS = (".cls", ".sup", ".jpg")


@pytest.mark.parametrize("suffix", KINDS)
def test_shards_fingerprint_tells_of_every_part(tmp_path, suffix):
    shard = next(write_shards(tmp_path).rglob("*.tar"))
    before = open_webdataset(tmp_path, 4, validation_fraction=0.3).fingerprint
    assert open_webdataset(tmp_path, 4, validation_fraction=0.3).fingerprint == before
    change(shard, suffix)
    assert open_webdataset(tmp_path, 4, validation_fraction=0.3).fingerprint != before


def test_shards_fingerprint_tells_of_folders(tmp_path):
    """Shards of one name and size in two folders, which are swapped."""
    shards = [next(write_shards(tmp_path / "x", name=name).rglob(f"{name}/*.tar")) for name in "ab"]
    before = open_webdataset(tmp_path, 4, validation_fraction=0.3).fingerprint
    contents = [shard.read_bytes() for shard in shards]
    assert len(contents[0]) == len(contents[1])
    for shard, content in zip(shards, reversed(contents), strict=True):
        shard.write_bytes(content)
    assert open_webdataset(tmp_path, 4, validation_fraction=0.3).fingerprint != before


def write_index(folder):
    """The index of the shards that ``write_shards`` wrote."""
    contents = {}
    for shard in folder.glob("*.tar"):
        tally = shard_index.Tally()
        for s in read_shard(shard, 4):
            tally.add(s["__key__"], s["image"], s["txt"], s["sup"], s["cls"])
        contents[shard.name] = tally.content
    shard_index.write_index(folder, contents)


@pytest.mark.parametrize("suffix", KINDS)
def test_a_shard_that_is_not_what_its_index_says(tmp_path, suffix):
    shard = next(write_shards(tmp_path).rglob("*.tar"))
    write_index(shard.parent)
    source = open_webdataset(tmp_path, 4, validation_fraction=0.3)
    assert read(source, samples.TRAIN)
    change(shard, suffix)
    source = open_webdataset(tmp_path, 4, validation_fraction=0.3)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must hold what index\.json says"):
        read(source, samples.TRAIN)


def test_an_index_is_read_once_whatever_number_of_shards(tmp_path, monkeypatch):
    """That of a data set of half a million episodes takes a second, and there are hundreds of shards."""
    shard = next(write_shards(tmp_path).rglob("*.tar"))
    for i in range(1, 4):
        (shard.parent / f"shard-{i:06d}.tar").write_bytes(shard.read_bytes())
    write_index(shard.parent)
    read_files = []
    real = shard_index.files.read_json
    monkeypatch.setattr(shard_index.files, "read_json", lambda path: (read_files.append(path), real(path))[1])
    source = open_webdataset(tmp_path, 4, validation_fraction=0.3)
    assert sum(source.counts(part).sum() for part in samples.PARTS) == 4 * 40
    assert read_files == [shard.parent / shard_index.NAME]

import threading
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
from botocore.exceptions import ClientError

from data.config import RetentionConfig
from data.errors import ConflictError, FencedError, InputError, LeaseHeldError, StoreError
from data.outputs.export_schemas import EXPORT_VERSION
from data.outputs.maintenance import remove_leftovers, remove_snapshots, what_to_keep
from data.store import bucket as object_store
from data.store.base import LocalStore
from data.store.lease import LEASE_KEY, hold_lease
from data.store.open import open_store
from data.vectors.pointer import promote, read_pointer, rollback

MIB = 1024**2


@pytest.fixture
def remote(bucket, tmp_path):
    return open_store(f"s3://{bucket}/a/home", work_dir=str(tmp_path / "work"))


@pytest.fixture(params=["directory", "bucket"])
def either(request, tmp_path):
    """The promises of the protocol hold for both kinds of store."""
    return LocalStore(tmp_path / "var") if request.param == "directory" else request.getfixturevalue("remote")


# --- the service ------------------------------------------------------------------------------------------------------


def test_the_service_of_these_tests_really_refuses_a_losing_conditional_write(bucket):
    client = boto3.client("s3")
    tag = client.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    client.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=tag)
    for losing in ({"IfNoneMatch": "*"}, {"IfMatch": tag}):
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.put_object(Bucket=bucket, Key="k", Body=b"3", **losing)
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"


@pytest.mark.parametrize(("argument", "header"), [("IfNoneMatch", "If-None-Match"), ("IfMatch", "If-Match")])
def test_a_service_that_ignores_conditions_is_refused_before_a_record_is_written(remote, monkeypatch, argument, header):
    real = remote._client.put_object

    def put_object(**request):
        return real(**{name: value for name, value in request.items() if name != argument})

    monkeypatch.setattr(remote._client, "put_object", put_object)
    with (
        pytest.raises(StoreError, match=rf"ignores write conditions \({header}\)") as caught,
        hold_lease(remote, owner="run"),
    ):
        pass
    assert caught.value.hint
    assert remote.read(LEASE_KEY) is None


def test_a_bucket_that_is_not_there_is_one_sentence(bucket, tmp_path):
    store = open_store("s3://nobody-made-this/x", work_dir=str(tmp_path))
    for call in (lambda: store.read("k/b"), lambda: store.put_if_absent("k", b""), lambda: list(store.list("k"))):
        with pytest.raises(StoreError, match="NoSuchBucket") as caught:
            call()
        assert "AWS_ENDPOINT_URL" in caught.value.hint


# --- the protocol -----------------------------------------------------------------------------------------------------


def test_what_is_put_can_be_read_and_is_never_replaced(either):
    assert either.read("a/b") is None
    assert either.put_if_absent("a/b", b"first")
    assert not either.put_if_absent("a/b", b"second")
    assert either.read("a/b") == b"first"


def test_a_file_is_moved_in_and_stays_where_it_is_when_the_key_is_taken(either, tmp_path):
    path = tmp_path / "part"
    path.write_text("one")
    assert either.put_if_absent("a/part", path)
    assert not path.exists()
    path.write_text("two")
    assert not either.put_if_absent("a/part", path)
    assert path.read_text() == "two"
    assert either.read("a/part") == b"one"


def test_of_many_threads_that_put_at_once_exactly_one_stores(either):
    barrier = threading.Barrier(4)

    def put(content):
        barrier.wait()
        return either.put_if_absent("race", content)

    contents = [bytes([number]) * 5000 for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        stored = list(pool.map(put, contents))
    assert stored.count(True) == 1
    assert either.read("race") == contents[stored.index(True)]


def test_a_swap_needs_the_content_that_is_there(either):
    with pytest.raises(ConflictError):
        either.compare_and_swap("r", expected=b"0", content=b"1")
    either.compare_and_swap("r", expected=None, content=b"1")
    for expected in (None, b"0"):
        with pytest.raises(ConflictError, match="r was changed by another writer"):
            either.compare_and_swap("r", expected=expected, content=b"2")
    either.compare_and_swap("r", expected=b"1", content=b"2")
    assert either.read("r") == b"2"


def test_counting_in_many_threads_loses_nothing(either):
    def count(_):
        for _ in range(5):
            while True:
                found = either.read("n")
                try:
                    either.compare_and_swap("n", expected=found, content=str(int(found or b"0") + 1).encode())
                    break
                except ConflictError:
                    continue

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert either.read("n") == b"20"


def test_keys_are_listed_looked_at_and_deleted(either):
    keys = ["t/b.txt", "t/b/a", "t/a", "t/b-1/z", "tt/x"]
    for key in keys:
        either.put_if_absent(key, b"12345")
    below = sorted(key for key in keys if key.startswith("t/"))
    assert list(either.list("t")) == below
    assert sorted(entry.key for entry in either.entries("t")) == below
    (entry,) = either.entries("t/a")
    assert entry.key == "t/a" and entry.size_bytes == 5 and entry.written_at > 1e9
    assert list(either.entries("t/b")) == list(either.entries("t/b/a"))
    assert either.exists("t") and either.exists("t/b") and either.exists("t/a") and not either.exists("t/b.t")
    either.delete("t/b")
    either.delete("gone")
    assert list(either.list("t")) == [key for key in below if key != "t/b/a"]
    either.delete("t")
    assert not either.exists("t") and either.exists("tt")


def test_what_is_stored_is_read_from_any_place_on(either):
    either.put_if_absent("f", bytes(range(100)))
    with either.open("f") as source:
        source.seek(90)
        assert source.read() == bytes(range(90, 100))
    with pytest.raises(FileNotFoundError):
        either.open("gone")


def test_a_local_path_holds_a_file_or_a_directory_of_keys(either):
    for key in ("c/1/record", "c/1/sub/weights"):
        either.put_if_absent(key, key.encode())
    assert either.local_path("c/1/record").read_text() == "c/1/record"
    folder = either.local_path("c/1")
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "record",
        "sub/weights",
    }
    assert not either.local_path("c/2").exists()


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/..", "a\0b"])
def test_a_key_that_leaves_the_store_is_refused(either, key):
    for call in (
        lambda: either.put_if_absent(key, b""),
        lambda: either.read(key),
        lambda: either.open(key),
        lambda: list(either.entries(key or "..")),  # nothing stands for all keys
        lambda: either.delete(key),
        lambda: either.location(key),
    ):
        with pytest.raises(InputError, match="is not a valid store key"):
            call()


# --- writes over a network --------------------------------------------------------------------------------------------


def test_a_write_whose_answer_was_lost_and_that_is_repeated_counts_as_stored(remote, monkeypatch):
    real = remote._client.put_object

    def put_twice(**arguments):
        real(**arguments)
        return real(**arguments)

    monkeypatch.setattr(remote._client, "put_object", put_twice)
    assert remote.put_if_absent("a", b"1")
    remote.compare_and_swap("r", expected=None, content=b"1")
    remote.compare_and_swap("r", expected=b"1", content=b"2")
    assert remote.read("r") == b"2"
    assert not remote.put_if_absent("a", b"1")  # equal content is not enough: it is another writer's


def test_large_files_go_in_parts_under_the_same_condition(remote, tmp_path, monkeypatch):
    monkeypatch.setattr(object_store, "PART_BYTES", 5 * MIB)
    for number, stored in enumerate([True, False]):
        path = tmp_path / "large"
        path.write_bytes(bytes([number]) * 6 * MIB)
        assert remote.put_if_absent("weights", path) is stored
        assert path.exists() is not stored
    assert remote.read("weights") == bytes(6 * MIB)
    assert "Uploads" not in remote._client.list_multipart_uploads(Bucket=remote._bucket)


def test_records_are_deleted_before_what_they_commit(remote, monkeypatch):
    keys = ["s/1/documents/part", "s/1/manifest.json", "s/1/quarantine/part"]
    for key in keys:
        remote.put_if_absent(key, b"")
    monkeypatch.setattr(object_store, "_KEYS_PER_DELETE", 1)
    doomed = []
    real = remote._client.delete_objects
    monkeypatch.setattr(
        remote._client,
        "delete_objects",
        lambda **rest: doomed.append(rest["Delete"]["Objects"][0]["Key"]) or real(**rest),
    )
    remote.delete("s/1")
    assert [key.removeprefix("a/home/") for key in doomed] == [keys[1], keys[0], keys[2]]


@pytest.mark.parametrize("home", ["ftp://host/x", "s3:///x", "s3://", "file://host/x", "file:///"])
def test_a_home_of_another_kind_is_refused(home, tmp_path):
    with pytest.raises(InputError, match="is not a valid store location") as caught:
        open_store(home, work_dir=str(tmp_path))
    assert "s3://bucket/prefix" in caught.value.hint


def test_a_file_uri_is_a_directory(tmp_path):
    store = open_store(f"file://{tmp_path}/with%20space", work_dir="unused")
    assert isinstance(store, LocalStore)
    assert store.root == tmp_path / "with space"


# --- what lies in it --------------------------------------------------------------------------------------------------


def test_one_writer_holds_the_lease_of_a_bucket(remote):
    with hold_lease(remote, owner="first") as lease:
        with pytest.raises(LeaseHeldError), hold_lease(remote, owner="second"):
            pass
        lease.check()
    with hold_lease(remote, owner="second") as later:
        assert later.epoch == lease.epoch + 1
        with pytest.raises(FencedError):
            lease.check()


def test_nights_in_a_bucket_are_nights_in_a_directory(remote, tmp_path, simulated):
    local, feeds = LocalStore(tmp_path / "var"), tmp_path / "feeds"
    nights = [
        {f"{kind}{number}": (f"text {number} of {kind}", "Oslo") for number in range(8)} for kind in ("job", "resume")
    ]
    changed = [{**documents, "new": ("a new text", "Rome")} for documents in nights]
    for documents in changed:
        del documents[min(documents)]
    for run, state in (("one", nights), ("two", changed), ("again", changed)):
        for kind, documents in zip(("job", "resume"), state, strict=True):
            simulated.write_feed(feeds, kind, documents)
        for store in (local, remote):
            simulated.run_night(store, feeds, run_id=run)
        assert simulated.state(remote) == simulated.state(local)
    assert simulated.finished(remote) == simulated.finished(local)
    with hold_lease(remote, owner="operator") as lease:
        rollback(remote, lease=lease, run_id="operator", now=read_pointer(remote).promoted_at)
    assert set(simulated.served(remote, "job")) == set(nights[0])


def test_of_two_promoters_one_wins_and_the_other_is_told(remote, rooms, simulated, tmp_path, monkeypatch):
    for kind in ("job", "resume"):
        simulated.write_feed(tmp_path / "feeds", kind, {"a": ("some text", "Oslo")})
    simulated.run_night(remote, tmp_path / "feeds", run_id="first")
    served = read_pointer(remote)
    generation = object_generation(remote)
    with hold_lease(remote, owner="both") as lease:

        def move(version, run_id):
            versions = {"job": version, "resume": served.resumes}
            return promote(
                remote,
                generation,
                versions=versions,
                snapshots=served.snapshots,
                lease=lease,
                run_id=run_id,
                now=rooms.now,
            )

        real = remote.compare_and_swap

        def overtaken(key, **rest):
            monkeypatch.setattr(remote, "compare_and_swap", real)
            move(101, "faster")  # between the other's read and its write
            real(key, **rest)

        monkeypatch.setattr(remote, "compare_and_swap", overtaken)
        with pytest.raises(ConflictError, match="changed by another writer"):
            move(202, "slower")
    assert (read_pointer(remote).run_id, read_pointer(remote).jobs) == ("faster", 101)


def object_generation(store):
    from data.vectors.generations import list_generations

    (generation,) = list_generations(store)
    return generation


def test_maintenance_looks_at_sizes_and_times_of_a_bucket(remote, simulated, tmp_path):
    for number in range(2):
        for kind in ("job", "resume"):
            simulated.write_feed(tmp_path / "feeds", kind, {"a": (f"text {number}", "Oslo")})
        simulated.run_night(remote, tmp_path / "feeds", run_id=f"night{number}")
    remote.local_path(f"exports/v{EXPORT_VERSION}")
    kept = what_to_keep(remote, RetentionConfig(keep_served=1, grace_hours=0), pinned=frozenset())
    removed = remove_snapshots(remote, kept)
    assert removed.count == 2 and removed.size_bytes > 1000
    assert remove_leftovers(remote, kept).count > 0
    assert not list(remote.machine.list("copies"))
    assert simulated.served(remote, "job") == {"a": ("text 1", "Oslo")}

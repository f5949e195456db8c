"""A server on the loopback that answers as the hub does, with made rows of the nine data sets."""

import contextlib
import email.utils
import hashlib
import http.server
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from verbalizer_bench.tasks import data
from verbalizer_bench.tasks.spec import DatasetSpec
from verbalizer_bench.tasks.suite import suite_datasets

Row = dict[str, Any]
Answer = dict[str, Any]
Ask = Callable[..., Answer]

TIMEOUT = 60.0
MAIN = "a" * 40
DATE = email.utils.formatdate(0, usegmt=True)

CLASSES = {
    "sst2": {1: "positive", 0: "negative"},
    "fp": {2: "positive", 0: "negative"},
    "emotion": {1: "joy", 0: "sadness"},
    "snli": {0: "entailment", 2: "contradiction"},
    "sick": {0: "entailment", 2: "contradiction"},
    "rte": {0: "entailment", 1: "not_entailment"},
    "qqp": {1: "duplicate", 0: "not_duplicate"},
    "mrpc": {1: "equivalent", 0: "not_equivalent"},
    "subj": {1: "subjective", 0: "objective"},
}
FIELDS = {
    **{"sst2": ("sentence",), "emotion": ("text",), "subj": ("text",)},
    **{"snli": ("premise", "hypothesis"), "rte": ("sentence1", "sentence2")},
    **{"qqp": ("question1", "question2"), "mrpc": ("sentence1", "sentence2")},
}
NAMES = {
    "emotion": ("sadness", "joy", "love", "anger", "fear", "surprise"),
    "snli": ("entailment", "neutral", "contradiction"),
    "sst2": ("negative", "positive"),
    "rte": ("entailment", "not_entailment"),
    "qqp": ("not_duplicate", "duplicate"),
    "mrpc": ("not_equivalent", "equivalent"),
}
LABELS = {"emotion": (0, 1, 2, 1, 5, 0), "snli": (2, -1, 0, 1, 0, 2)}
SPLITS = ("train", "validation", "test")
REPOSITORIES = {
    "nyu-mll/glue": ("sst2", "rte", "qqp", "mrpc"),
    "dair-ai/emotion": ("emotion",),
    "stanfordnlp/snli": ("snli",),
}
CONFIGS = {"emotion": "split", "snli": "plain_text"}
PINNED = ("sst2", "emotion", "snli", "rte", "qqp", "mrpc", "subj")
SPLITS_READ = {
    **dict.fromkeys(("sst2", "rte", "qqp", "mrpc"), ("validation", "train")),
    **dict.fromkeys(("emotion", "snli", "sick", "subj"), ("test", "train")),
    "fp": ("train", "train"),
}
PHRASEBANK = "takala/financial_phrasebank"
PHRASEBANK_FILE = "data/FinancialPhraseBank-v1.0.zip"
PHRASEBANK_TEXT = (
    "Profit rose to EUR 5 mn .@positive\r\n"
    " Write to ir@café-pörssi.fi by Friday .  @negative\r\n"
    "The company is based in Åbo \x85 .@neutral\r\n"
    "\r\n"
    "Sales fell .@negative\r\n"
)
PHRASEBANK_ROWS = [
    {"sentence": "Profit rose to EUR 5 mn .", "label": 2},
    {"sentence": "Write to ir@café-pörssi.fi by Friday .  ", "label": 0},
    {"sentence": "The company is based in Åbo \x85 .", "label": 1},
    {"sentence": "Sales fell .", "label": 0},
]
SICK_PATH = "/record/2787612/files/SICK.zip"
SICK_COLUMNS = (
    *("pair_ID", "sentence_A", "sentence_B", "entailment_label", "relatedness_score"),
    *("entailment_AB", "entailment_BA", "sentence_A_original", "sentence_B_original"),
    *("sentence_A_dataset", "sentence_B_dataset", "SemEval_set"),
)
SICK_PAIRS = (
    ("A man naps", "Somebody sleeps", "ENTAILMENT", "TEST"),
    ("A man naps", "A man is awake", "CONTRADICTION", "TRAIN"),
    ("A café opens", "A café closes", "CONTRADICTION", "TEST"),
    ("A dog runs", "A cat runs", "NEUTRAL", "TEST"),
    ("A dog runs", "A dog moves", "ENTAILMENT", "TRAIN"),
    ("A cat sits", "A cat moves", "CONTRADICTION", "TRIAL"),
)


def spec_of(name: str) -> DatasetSpec:
    return suite_datasets()[name][0]


def revision_of(name: str) -> str:
    return str(spec_of(name).loader.kwargs["revision"])


def rows_of(name: str, split: str) -> list[Row]:
    """Return made-up rows: texts that need stripping, with characters that some split lines at."""
    return [
        {field: f"  {name} {split} {field} {n} “é”\u2028\x85, \n" for field in FIELDS[name]}
        | {"label": label}
        for n, label in enumerate(LABELS.get(name, (1, 0, 0, 1)))
    ]


def hub_rows(name: str, split: str) -> list[Row]:
    """Return the rows that the hub has of a split, in the hub's columns."""
    if name == "fp":
        return PHRASEBANK_ROWS
    if name == "sick":
        return sick_rows({"train": "TRAIN", "test": "TEST"}[split])
    return rows_of(name, split)


def sick_rows(part: str) -> list[Row]:
    labels = {"ENTAILMENT": 0, "NEUTRAL": 1, "CONTRADICTION": 2}
    return [
        {
            "id": str(number),
            "sentence_A": first,
            "sentence_B": second,
            "label": labels[label],
            "entailment_label": label,
            "relatedness_score": 3.5,
            "entailment_AB": f"A_{label.lower()}_B",
            "entailment_BA": "B_neutral_A",
        }
        for number, (first, second, label, where) in enumerate(SICK_PAIRS, start=1)
        if where == part
    ]


def sick_text() -> str:
    lines = ["\t".join(SICK_COLUMNS)]
    for number, (first, second, label, part) in enumerate(SICK_PAIRS, start=1):
        judged = (label, "3.5", f"A_{label.lower()}_B", "B_neutral_A")
        lines.append(
            "\t".join(
                (str(number), first, second, *judged, first, second, "FLICKR", "FLICKR", part)
            )
        )
    return "\n".join(lines) + "\n"


def expected(name: str, split: str) -> list[dict[str, str]]:
    """Return the documents that a split must give, in the order of its rows."""
    docs = []
    for row in hub_rows(name, split):
        if row["label"] in CLASSES[name]:
            texts = {field: row[field].strip() for field in spec_of(name).fields}
            docs.append({"label": CLASSES[name][row["label"]], **texts})
    return docs


def by_hash(docs: list[dict[str, str]]) -> list[dict[str, str]]:
    return sorted(docs, key=data.document_hash)


def zip_bytes(member: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return buffer.getvalue()


def parquet_bytes(rows: list[Row]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def readme(folders: Mapping[str, str]) -> bytes:
    """Return a data set card that lists its configurations, `{data set: configuration}`."""
    infos, configs = [], []
    for name, config in folders.items():
        label = {"class_label": {"names": {str(i): n for i, n in enumerate(NAMES[name])}}}
        texts = [{"name": field, "dtype": "string"} for field in FIELDS[name]]
        features = [*texts, {"name": "label", "dtype": label}]
        infos.append({"config_name": config, "features": features})
        files = [{"split": split, "path": f"{config}/{split}-*"} for split in SPLITS]
        configs.append({"config_name": config, "data_files": files})
    card = yaml.safe_dump({"dataset_info": infos, "configs": configs}, sort_keys=False)
    return f"---\n{card}---\n\n# Made up\n".encode()


def repository_files() -> dict[str, dict[str, bytes]]:
    """Return the files of the hub's repositories, by repository and path."""
    files: dict[str, dict[str, bytes]] = {}
    for repository, names in REPOSITORIES.items():
        folders = {name: CONFIGS.get(name, name) for name in names}
        files[repository] = {"README.md": readme(folders)} | {
            f"{folder}/{split}-00000-of-00001.parquet": parquet_bytes(rows_of(name, split))
            for name, folder in folders.items()
            for split in SPLITS
        }
    files["SetFit/subj"] = {
        f"{split}.jsonl": "".join(json.dumps(r) + "\n" for r in rows_of("subj", split)).encode()
        for split in ("test", "train")
    }
    member = "FinancialPhraseBank-v1.0/Sentences_AllAgree.txt"
    archive = zip_bytes(member, PHRASEBANK_TEXT.encode("latin-1"))
    files[PHRASEBANK] = {"README.md": b"# Made up\n", PHRASEBANK_FILE: archive}
    return files


class Hub(http.server.ThreadingHTTPServer):
    """The hub's layout; requests are logged. Paths with `faulty` in them get the status `fault`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server_bind()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files = repository_files()
        self.sick = zip_bytes("SICK.txt", sick_text().encode())
        self.commits = {str(spec_of(n).loader.path): revision_of(n) for n in PINNED}
        self.log: list[str] = []
        self.fault: int | None = None
        self.faulty = ""
        self.ranges = True

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Answer in a daemon thread; connections before and after are refused."""
        self.server_activate()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield
        finally:
            self.shutdown()
            self.server_close()

    @contextlib.contextmanager
    def failing(self, status: int, path: str) -> Iterator[None]:
        """Answer requests whose path has `path` in it with a status."""
        self.fault, self.faulty = status, path
        try:
            yield
        finally:
            self.fault, self.faulty = None, ""

    def revisions(self, repository: str) -> dict[str, str]:
        """Return the names that a revision is asked by; a pinned repository has no other."""
        commit = self.commits.get(repository)
        return {commit: commit} if commit else {"main": MAIN, MAIN: MAIN}


class Handler(http.server.BaseHTTPRequestHandler):
    """The paths that `huggingface_hub` and `datasets` ask for, and the archive of SICK."""

    server: Hub
    timeout = 10.0

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.server.log.append(f"{self.command} {path}")
        if self.server.fault is not None and self.server.faulty in path:
            self.fail(self.server.fault, "RepoNotFound" if self.server.fault == 404 else "")
        elif path == SICK_PATH:
            self.redirect(path.replace("/record/", "/records/"))
        elif path == SICK_PATH.replace("/record/", "/records/"):
            if not self.server.ranges:
                return self.send(200, self.server.sick, {})
            self.send_file(self.server.sick, {})
        else:
            self.answer_hub(path.strip("/").split("/"), body)

    def answer_hub(self, parts: list[str], body: bytes) -> None:
        api = parts[0] == "api"
        parts = parts[1:] if api else parts
        repository = "/".join(parts[1:3])
        if parts[0] != "datasets" or repository not in self.server.files:
            return self.fail(404, "RepoNotFound")
        action, revision, *rest = [*parts[3:], "revision", "main"][: max(len(parts) - 3, 2)]
        commit = self.server.revisions(repository).get(revision)
        if commit is None:
            return self.fail(404, "RevisionNotFound")
        files = self.server.files[repository]
        path = "/".join(rest)
        if not api and action == "resolve":
            if path not in files:
                return self.fail(404, "EntryNotFound", commit)
            return self.send_file(files[path], {"X-Repo-Commit": commit})
        if action == "revision":
            siblings = [{"rfilename": name} for name in files]
            info = {"id": repository, "sha": commit, "siblings": siblings, "private": False}
            return self.send_json(info | {"tags": [], "downloads": 0, "likes": 0})
        if action == "paths-info":
            wanted = self.wanted_paths(body)
            return self.send_json([e for e in entries(files, "", True) if e["path"] in wanted])
        if action == "tree":
            recursive = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0]
            found = entries(files, path, recursive.lower() in ("1", "true"))
            return self.send_json(found) if found else self.fail(404, "EntryNotFound", commit)
        return self.fail(404, "")

    def wanted_paths(self, body: bytes) -> list[str]:
        if "json" in self.headers.get("Content-Type", ""):
            paths = json.loads(body)["paths"]
            return [paths] if isinstance(paths, str) else list(paths)
        return parse_qs(body.decode()).get("paths", [])

    def fail(self, status: int, code: str, commit: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code, "X-Repo-Commit": commit}
        self.send(status, b"", {key: value for key, value in headers.items() if value})

    def redirect(self, path: str) -> None:
        self.send(301, b"", {"Location": self.server.url + path})

    def send_json(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send_file(self, content: bytes, headers: Mapping[str, str]) -> None:
        digest = hashlib.sha256(content).hexdigest()
        headers = {
            "ETag": f'"{digest}"',
            "Accept-Ranges": "bytes",
            "Last-Modified": DATE,
            **headers,
        }
        unit, _, span = self.headers.get("Range", "").partition("=")
        if unit != "bytes":
            return self.send(200, content, headers)
        first, _, last = span.partition("-")
        size = len(content)
        start = int(first) if first else max(size - int(last), 0)
        stop = min(int(last) + 1, size) if first and last else size
        if start >= size:
            return self.send(416, b"", headers | {"Content-Range": f"bytes */{size}"})
        span = f"bytes {start}-{stop - 1}/{size}"
        return self.send(206, content[start:stop], headers | {"Content-Range": span})

    def send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def entries(files: Mapping[str, bytes], folder: str, recursive: bool) -> list[Row]:
    """Return what the hub's tree has under a folder: files and folders."""
    found: dict[str, Row] = {}
    prefix = f"{folder}/" if folder else ""
    for path, content in files.items():
        if not path.startswith(prefix):
            continue
        names = path.removeprefix(prefix).split("/")
        for depth in range(1, len(names) if recursive else min(len(names), 2)):
            name = prefix + "/".join(names[:depth])
            oid = hashlib.sha1(name.encode()).hexdigest()
            found[name] = {"type": "directory", "path": name, "oid": oid, "size": 0}
        if recursive or len(names) == 1:
            oid = hashlib.sha1(content).hexdigest()
            found[path] = {"type": "file", "path": path, "oid": oid, "size": len(content)}
    return list(found.values())

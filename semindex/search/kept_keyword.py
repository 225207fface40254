"""The keyword index of a corpus, kept in a directory from one start to the next."""

import argparse

from semindex import runtime
from semindex.directories import check_replaceable
from semindex.errors import UserError
from semindex.search.keyword import KIND, KeywordIndex, KeywordSettings, read_meta
from semindex.text.corpus import Corpus


def _settings(args: argparse.Namespace) -> KeywordSettings:
    return KeywordSettings(args.tokens, args.k1, args.b)


def check_keyword(args: argparse.Namespace, corpus: Corpus) -> bool:
    """Tell whether --keyword_dir holds the index of this corpus, by keyword.json alone: before anything is encoded.

    args: flags of search_flags.add_keyword and add_keyword_dir, and --rebuild_index where the script has it: with it
    there is none to use. Raises UserError where the directory holds something else, or the index of another corpus or
    of other flags.
    """
    directory, anew = args.keyword_dir, getattr(args, "rebuild_index", False)
    if not directory or not check_replaceable(directory, "--keyword_dir", KIND) or anew:
        return False
    meta, wanted = read_meta(directory, trust=True), _settings(args)
    other = "other --tokens, --k1 or --b" if KeywordSettings(meta["tokens"], meta["k1"], meta["b"]) != wanted else \
        "another corpus" if meta.get("corpus") != corpus.fingerprint else ""
    if other:
        replace = "pass --rebuild_index to replace it, or " if hasattr(args, "rebuild_index") else ""
        raise UserError(f"--keyword_dir {directory}: was built with {other}; {replace}name another directory")
    return True


def open_keyword(args: argparse.Namespace, corpus: Corpus) -> KeywordIndex:
    """Return the index of --keyword_dir where it is of this corpus; else build it and, given a directory, save it.

    Raises UserError as check_keyword does, and where the kept files are not what was saved (but for --trust_files).
    """
    if check_keyword(args, corpus):
        index = KeywordIndex.load(args.keyword_dir, getattr(args, "trust_files", False))
        runtime.say(f"keyword index of {args.keyword_dir} reused")
        return index
    index = KeywordIndex.build(corpus, _settings(args), args.corpus_file)
    if args.keyword_dir:
        index.save(args.keyword_dir, corpus.fingerprint)
        runtime.say(f"keyword index saved in {args.keyword_dir}")
    return index

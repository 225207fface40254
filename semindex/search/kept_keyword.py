"""The keyword index of a corpus, kept in a directory from one start to the next."""

import argparse

from semindex import runtime
from semindex.directories import check_replaceable
from semindex.errors import UserError
from semindex.search.keyword import KIND, KeywordIndex, KeywordSettings
from semindex.text.corpus import Corpus


def open_keyword(args: argparse.Namespace, corpus: Corpus) -> KeywordIndex:
    """Return the index of --keyword_dir where it is of this corpus; else build it and, given a directory, save it.

    args: flags of search_flags.add_keyword, --corpus_file, and --trust_files and --rebuild_index where the script has
    them. Raises UserError where the directory holds something else, or the index of another corpus or other flags,
    unless --rebuild_index is given.
    """
    directory, settings = args.keyword_dir, KeywordSettings(args.tokens, args.k1, args.b)
    if directory and check_replaceable(directory, "--keyword_dir", KIND) and not getattr(args, "rebuild_index", False):
        index = KeywordIndex.load(directory, getattr(args, "trust_files", False))
        other = "other --tokens, --k1 or --b" if index.settings != settings else \
            "another corpus" if index.corpus != corpus.fingerprint else ""
        if other:
            replace = "pass --rebuild_index to replace it, or " if hasattr(args, "rebuild_index") else ""
            raise UserError(f"--keyword_dir {directory}: was built with {other}; {replace}name another directory")
        runtime.say(f"keyword index of {directory} reused")
        return index
    index = KeywordIndex.build(corpus, settings, args.corpus_file)
    if directory:
        index.save(directory, corpus.fingerprint)
        runtime.say(f"keyword index saved in {directory}")
    return index

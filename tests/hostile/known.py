"""What is known to fail, by pattern of SCRIPT/KIND/VARIANT, with the fault's number in the issue, or new.

Every case that a pattern fits must fail: a mend narrows or removes the line. `python -m tests.hostile --known` prints the
table as it is after a run over everything. RACY cases fail at some times only: they are listed, never insisted on.
"""

from fnmatch import fnmatchcase

RACY = ("*/interrupted/*",)
KNOWN: dict[str, str] = {
    "ann_vectors/surroundings/PADDLE_TRAINER_ID-x": "23",
    "deploy/contents/blank_lines-2": "15",
    "deploy/contents/four_columns": "15",
    "evaluate/contents/labels-similar_text_pair-header": "29",
    "evaluate_trec/contents/grades-huge": "20",
    "evaluate_trec/contents/metrics-huge": "20",
    "evaluate_trec/contents/metrics-superscript": "20",
    "export_model/no_room/file_size-20000": "30",
    "export_model/surroundings/PADDLE_TRAINERS_NUM-none": "23",
    "inference/no_room/full": "30",
    "inference_text/arguments/text.6-raw": "21",
    "inference_text/contents/double": "5",
    "keyword_recall/contents/labels-similar_text_pair-text": "29",
    "keyword_recall/surroundings/PADDLE_TRAINERS_NUM-2": "23",
    "keyword_recall/surroundings/PADDLE_TRAINER_ID-x": "23",
    "mine_negatives/output_files/output_file-up": "27",
    "mine_negatives/surroundings/PADDLE_TRAINERS_NUM-2": "23",
    "plot_negatives/surroundings/PADDLE_TRAINERS_NUM-0": "23",
    "plot_training/artefacts/save_dir-raw_name": "new",
    "predict/surroundings/PADDLE_TRAINERS_NUM-0": "23",
    "rank_collection/contents/candidates-other_queries": "22",
    "rank_collection/contents/candidates-unknown": "22",
    "rank_collection/contents/candidates-zero_column": "10",
    "rank_collection/contents/ids-spaced": "22",
    "rank_collection/over_inputs/two_outputs-run_file-data_dir": "19",
    "rank_collection/surroundings/PADDLE_TRAINERS_NUM-x": "23",
    "recall/output_files/recall_result_file-long": "27",
    "recall/over_inputs/two_outputs-trec_run_file-index_dir": "19",
    "recall_again/surroundings/PADDLE_TRAINER_ID-5": "23",
    "recall_again/surroundings/PADDLE_TRAINER_ID-x": "23",
    "resume_ance/texts/corpus_file-gz": "new",
    "split_data/streams/stdout_full": "14",
    "train_ance/over_inputs/two_outputs-data_dir-ann_dir": "19",
    "train_ance_trec/artefacts/init_from_ckpt-raw_name": "new",
    "train_ance_trec/surroundings/PADDLE_TRAINER_ID-5": "23",
    "train_batch_neg/contents/labels-dev_set_file-word": "29",
    "train_hardest_neg/no_room/full": "30",
    "train_hardest_neg/surroundings/PADDLE_TRAINER_ID-x": "23",
}


def known(name):
    """Return the pattern that fits a case, None where it is to hold."""
    return next((pattern for pattern in KNOWN if fnmatchcase(name, pattern)), None)


def racy(name):
    """Tell whether a case may hold and fail by turns."""
    return any(fnmatchcase(name, pattern) for pattern in RACY)


# Where a failure belongs when it is entered: the first that fits.
FAULTS = {
    "*/contents/labels*": "29", "*/contents/*zero_column": "10", "*/contents/weights*": "6", "*/contents/optimizer*": "6",
    "*/contents/blank*": "15", "*/contents/four*": "15", "*/contents/metrics*": "20", "*/contents/grades*": "20",
    "*/contents/double": "5", "*/contents/*": "22",
    "*/texts/*-pipe": "30", "*-pipe": "30", "*/texts/*dash*": "21", "*/over_inputs/*": "19", "*/output_files/*full": "22",
    "*/output_files/*-null": "27", "*/output_files/*-link": "12", "*/output_files/*-gz": "30", "*/output_files/*": "27",
    "*-neighbours": "2", "*/output_directories/*": "27", "*/numbers/*": "20", "*/arguments/*": "21",
    "*/streams/reader*": "14", "*/streams/stdout_full": "14", "*/streams/*": "21", "*/surroundings/home*": "26",
    "*/surroundings/*": "23", "*/no_room/*": "30", "*/altered/*": "24", "*/settings/*": "25", "*/interrupted/twice*": "28",
    "*/interrupted/*": "30", "*": "new"}


def fault(name):
    """Return the number of the fault that a new failure is likely to belong to."""
    return next(number for pattern, number in FAULTS.items() if fnmatchcase(name, pattern))


def generalisations(name):
    """Return patterns that fit a case, the widest first."""
    script, kind, variant = name.split("/", 2)
    parts = variant.split("-")
    first, last = parts[0], parts[-1]
    middle = "-".join(parts[:2])
    tails = [f"*-{last}", f"{first}-*", f"{middle}-*", f"{first}-*-{last}", variant]
    return [f"*/{kind}/*", *(f"*/{kind}/{tail}" for tail in tails), f"{script}/{kind}/*",
            *(f"{script}/{kind}/{tail}" for tail in tails)]


def compress(failed, held):
    """Return patterns that fit all that failed and nothing that held, as few as a greedy choice finds."""
    candidates = {}
    for name in failed:
        for pattern in generalisations(name):
            candidates.setdefault(pattern, set()).add(name)
    usable = {pattern: names for pattern, names in candidates.items()
              if not any(fnmatchcase(name, pattern) for name in held)}
    left, chosen = set(failed), []
    while left:
        best = max(usable, key=lambda pattern: (len(usable[pattern] & left), -len(pattern)))
        if not usable[best] & left:
            break
        chosen.append(best)
        left -= usable[best]
    return sorted(chosen) + sorted(left)

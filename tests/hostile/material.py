"""The tiny data and artefacts that the commands read, made once by the scripts themselves."""

import fcntl
import os
import shutil
import signal
import time

from forked import run, start

SUBJECTS = ["卡丢了", "忘记密码", "改手机号", "退款没到账", "快递不动了", "宽带掉线"]
FRAMES = ["{}怎么办", "我的{}该咋处理", "{}了找谁", "请问{}要怎么弄"]


def write(path, lines):
    """Write lines of UTF-8."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def texts(directory):
    """Write pairs, corpus and a collection in TREC's form."""
    groups = [[frame.format(subject) for frame in FRAMES] for subject in SUBJECTS]
    write(directory / "train.csv", (f"{g[i]}\t{g[1 - i]}" for g in groups for i in (0, 1)))
    write(directory / "dev.csv", (f"{g[2]}\t{g[3]}" for g in groups))
    for name, i, j in (("labelled.csv", 0, 1), ("labelled_dev.csv", 2, 3)):
        write(directory / name, (f"{g[i]}\t{h[j]}\t{int(g is h)}" for g, other in zip(groups, groups[1:] + groups[:1])
                                 for h in (g, other)))
    write(directory / "scores.txt", (f"{0.1 * (i % 7)}" for i in range(2 * len(groups))))
    write(directory / "corpus.csv", [text for g in groups for text in (g[0], g[1], g[3])])
    write(directory / "corpus.tsv", (f"D{i}-{j}\t{g[j]}" for i, g in enumerate(groups) for j in (0, 1, 3)))
    write(directory / "queries.tsv", (f"q{i}\t{g[2]}" for i, g in enumerate(groups)))
    write(directory / "dev.tsv", (f"d{i}\t{g[1]}" for i, g in enumerate(groups)))
    for name, prefix in (("qrels", "q"), ("dev.qrels", "d")):
        write(directory / name, (f"{prefix}{i} 0 D{i}-{j} {2 - j}" for i in range(len(groups)) for j in (0, 1)))
    write(directory / "faq.tsv", (f"{g[0]}\t请看第{i}页\t服务\t{g[1]}" for i, g in enumerate(groups)))
    write(directory / "off.txt", ["明天下雨吗", "讲个笑话", "红烧肉怎么做", "谁是冠军"])
    ways = [*FRAMES[2:], "{}，急", "想问{}的事"]
    asked = [f"{way.format(subject)}\t{g[0]}" for subject, g in zip(SUBJECTS, groups) for way in ways]
    write(directory / "questions.tsv", [*asked, "明天下雨吗\t", "讲个笑话\t"])
    write(directory / "candidates.tsv", (f"q{i}\tD{j}-{k}" for i in range(len(groups)) for j in (i, (i + 1) % 6) for k in (0, 3)))


STEPS = [
    "train_batch_neg.py --device cpu --model_name_or_path scratch-1x32 --output_emb_size 16 --max_seq_length 24 --batch_size 4 "
    "--learning_rate 1e-3 --max_steps 4 --log_steps 1 --train_set_file train.csv --save_dir first",
    "recall.py --device cpu --params_path first/latest --corpus_file corpus.csv --similar_text_pair dev.csv --recall_num 5 "
    "--recall_result_dir . --recall_result_file result.txt --index_dir index",
    "recall.py --device cpu --params_path first/latest --corpus_file corpus.csv --similar_text_pair dev.csv --recall_num 5 "
    "--recall_result_dir . --recall_result_file hnsw.txt --index_dir hnsw --index_type hnsw --hnsw_threads 1",
    "export_model.py --params_path first/latest --output_path export",
    "export_model.py --params_path first/latest --output_path published --format sentence-transformers",
    "train_ance.py --device cpu --init_from_ckpt first/latest --batch_size 8 --max_steps 2 --save_dir first_ance --corpus_file "
    "corpus.tsv --queries_file queries.tsv --qrels_file qrels --dev_queries_file dev.tsv --dev_qrels_file dev.qrels "
    "--topk_training 10 --negative_sample 3 --data_dir collection",
    "run_ann_data_gen.py --device cpu --init_model_dir first/latest --data_dir collection --inference --output_dir vectors",
    "build_faq.py --device cpu --params_path first/latest --faq_file faq.tsv --output_dir faq",
    "calibrate.py --device cpu --faq_dir faq --questions_file questions.tsv --output_file calibration.json",
    "ask.py --device cpu --faq_dir faq --calibration calibration.json --questions_file questions.tsv --output_file replies.jsonl",
    "rank_collection.py --device cpu --params_path first/latest --corpus_file corpus.tsv --queries_file queries.tsv "
    "--run_file run.trec --depth 5 --data_dir ranked",
]

ANCE = ("train_ance.py --device cpu --init_from_ckpt first/latest --batch_size 8 --max_steps 40 --save_steps 2 --refresh_steps 20 "
        "--save_dir ance --corpus_file corpus.tsv --queries_file queries.tsv --qrels_file qrels --dev_queries_file dev.tsv "
        "--dev_qrels_file dev.qrels --topk_training 10 --negative_sample 3 --data_dir collection")
TERMINATED = [
    "train_batch_neg.py --device cpu --model_name_or_path scratch-1x32 --output_emb_size 16 --max_seq_length 24 --batch_size 4 "
    "--max_steps 40 --save_steps 2 --train_set_file train.csv --save_dir training", ANCE]


def terminate(directory, words):
    """Run a training until its first checkpoint is there, then end it by SIGTERM: something to resume."""
    training = start(words, cwd=directory)
    latest = directory / words[words.index("--save_dir") + 1] / "latest"
    while training.poll() is None and not latest.exists():
        time.sleep(0.005)
    training.send_signal(signal.SIGTERM)
    assert training.wait(60) == 128 + signal.SIGTERM


def make(directory):
    """Make everything below a directory unless it is there; other processes wait. Returns the directory."""
    os.makedirs(directory, exist_ok=True)
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "made").exists():
            texts(directory)
            for step in STEPS:
                done = run(step.split(), cwd=directory)
                assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"
            for training in TERMINATED:
                terminate(directory, training.split())
            shutil.copytree(directory / "first" / "model_4", directory / "checkpoint")
            (directory / "made").touch()
    return directory

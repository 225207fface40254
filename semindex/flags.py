"""Flags shared by the scripts. Imports neither paddle nor paddlenlp."""

import argparse
import os

from semindex.cli import Parser, fraction, natural, nonnegative, number, positive_float, positive_int, seed, truth
from semindex.errors import UserError
from semindex.milvus_flags import add_milvus
from semindex.registry import ENGINES

STRATEGIES = {"CLS_TOKEN": "cls", "REDUCE_MEAN": "mean", "REDUCE_MAX": "max"}


def add_device(parser: Parser) -> None:
    """`--device` and `--seed`."""
    parser.add_argument("--device", default="auto", metavar="{auto,cpu,gpu,gpu:N,...}",
                        help="where to compute; auto takes a GPU where there is one [auto]")
    parser.add_argument("--seed", type=seed, default=1000, help="of weights, data order and dropout [1000]")


def add_encoder(parser: Parser, max_seq_length: int = 64) -> None:
    """Flags that shape the encoder. All default to None: what the checkpoint says, else the recipe's value.

    max_seq_length: of a new encoder, for the help.
    """
    group = parser.add_argument_group("encoder (left out: what the checkpoint says)")
    group.add_argument("--model_name_or_path", metavar="NAME",
                       help="a paddlenlp name, a local directory, or scratch-LxW: our own encoder of L layers, "
                            "W wide, from random weights, with a vocabulary made from the training texts")
    # paddle ends the process where a width is beyond 32 bits; the checkpoint's settings know the same bound.
    group.add_argument("--output_emb_size", type=number(int, 0, 65_536, "a whole number from 0 to 65536"), metavar="N",
                       help="width of the linear layer after pooling; 0: none [256 for a new encoder]")
    group.add_argument("--max_seq_length", type=number(int, 3, 8192, "a whole number from 3 to 8192"), metavar="N",
                       help="tokens a text, special ones included; longer texts are cut [the checkpoint's, or "
                            f"{max_seq_length}]")
    group.add_argument("--pooling", "--pooling_strategy", type=lambda name: STRATEGIES.get(name, name),
                       choices=["pooler", "cls", "mean", "max"],
                       help="pooler: tanh pooler output of [CLS]; CLS_TOKEN, REDUCE_MEAN and REDUCE_MAX, as "
                            "bert-as-service says, are cls, mean and max [pooler; mean for scratch encoders]")
    group.add_argument("--pooling_layer", type=number(int, -10_000, 10_000, "a whole number"), metavar="N",
                       help="hidden layer that cls, mean and max read; -1 is the last, -2 the last but one [-1]")
    group.add_argument("--query_prompt", metavar="TEXT", help="stands before every query, as 'query: ' of E5 [none]")
    group.add_argument("--passage_prompt", metavar="TEXT", help="stands before every passage [none]")
    group.add_argument("--query_prompt_on_both", action="store_const", const=True,
                       help="both sides are of one kind, questions for example: passages get the query's prompt too")


def add_side(parser: Parser) -> None:
    """`--as`."""
    parser.add_argument("--as", dest="side", choices=["query", "passage"],
                        help="which side's prompt the texts get, where the encoder has prompts [query]")


def add_checkpoint(parser: Parser, required: bool = True) -> None:
    """`--params_path` and the encoder flags beside it."""
    parser.add_argument("--params_path", required=required, metavar="PATH",
                        help="a checkpoint directory (model_STEP, best, latest) or its model_state.pdparams")
    parser.reads("params_path", "model_name_or_path")
    add_truncation(parser)
    add_trust(parser)
    add_encoder(parser)


def add_truncation(parser: Parser) -> None:
    """`--truncate_dim`."""
    parser.add_argument("--truncate_dim", type=number(int, 0, 65_536, "a whole number from 0 to 65536"), metavar="D",
                        help="keep the first D numbers of each vector, as a unit vector; 0: all [the checkpoint's, "
                             "mostly all]")


def add_trust(parser: Parser) -> None:
    """`--trust_files`."""
    parser.add_argument("--trust_files", action="store_true",
                        help="do not compare the checksums of checkpoint, index, export and collection: a few seconds "
                             "less for files of gigabytes")


def add_scale(group: argparse._ArgumentGroup, usual: str) -> None:
    """`--scale` and `--temperature`, two names of one number, for scale_of. usual: the scale where neither is given."""
    either = group.add_mutually_exclusive_group()
    either.add_argument("--scale", type=positive_float, help=f"inverse of the temperature [{usual}]")
    either.add_argument("--temperature", type=positive_float, metavar="T",
                        help="the same as --scale 1/T, 0.05 is --scale 20 [--scale's]")


def scale_of(args: argparse.Namespace, usual: float) -> float:
    """Return what the flags of add_scale say; usual: where neither is given."""
    return 1 / args.temperature if args.temperature else args.scale or usual


def add_batch_size(parser: Parser, default: int) -> None:
    """`--batch_size`."""
    parser.add_argument("--batch_size", type=positive_int, default=default, metavar="N",
                        help=f"texts (in training: samples a process) at once [{default}]")


def add_engine(parser: Parser) -> None:
    """`--batch_size` and `--engine` of the scripts that encode."""
    parser.add_argument("--batch_size", type=positive_int, metavar="N",
                        help="texts at once [as many of similar length as 1024 tokens hold]")
    parser.add_argument("--engine", choices=["auto", "dynamic", "static", "onnx", "int8"], default="auto",
                        help="what computes the vectors on a CPU: Paddle's dynamic graph, its static one (Paddle "
                             "Inference), onnxruntime, or that with 8-bit weights, faster and a little off; auto: the "
                             "fastest in fp32 that is installed, from 10,000 texts on [auto]")


def add_bad_lines(parser: Parser) -> None:
    """`--skip_bad_lines`."""
    parser.add_argument("--skip_bad_lines", action="store_true",
                        help="count and skip lines of a wrong shape instead of stopping at the first")


PAIR_FLAGS = ("--similar_text_pair_file", "--similar_text_pair", "--similar_pair_file")


def add_pairs(parser: Parser, text: str = "lines of query<TAB>positive", nargs: str | None = None,
              required: bool = True) -> None:
    """The evaluation pairs under every name the recipe's documents use."""
    parser.add_argument(*PAIR_FLAGS, metavar="FILE", dest="similar_text_pair_file", required=required, nargs=nargs,
                        help=text)
    parser.reads("similar_text_pair_file")


def add_recall_inputs(parser: Parser) -> None:
    """Corpus and queries of a recall, as texts or with ids, and a TREC run of it; see check_recall_inputs."""
    parser.add_argument("--corpus_file", required=True, metavar="FILE",
                        help="texts to recall from, one a line; beside --queries_file id<TAB>text, or "
                             "id<TAB>url<TAB>title<TAB>body")
    parser.add_argument(*PAIR_FLAGS, metavar="FILE", dest="similar_text_pair_file", help="lines of query<TAB>positive")
    parser.add_argument("--queries_file", metavar="FILE",
                        help="id<TAB>query, instead of pairs; --trec_run_file is then the only result")
    parser.add_argument("--trec_run_file", metavar="FILE",
                        help="write a TREC run too; without --queries_file ids count the distinct queries and the "
                             "texts from 1, in file order")
    parser.reads("corpus_file", "similar_text_pair_file", "queries_file")
    parser.writes("trec_run_file")


def add_typed(parser: Parser) -> None:
    """Queries typed by hand; see check_recall_inputs."""
    parser.add_argument("--query", nargs="+", metavar="TEXT",
                        help="print the nearest texts of these queries and their cosines; no result file is written")
    parser.add_argument("--interactive", action="store_true",
                        help="the same for each query that is typed; ends with Ctrl-D")


def check_recall_inputs(args: argparse.Namespace) -> None:
    """Raise UserError where the flags name no queries, two kinds of them, or no place for a run with ids."""
    typed = bool(getattr(args, "query", None) or getattr(args, "interactive", False))
    if bool(args.similar_text_pair_file) + bool(args.queries_file) + typed != 1:
        by_hand = ", or --query or --interactive (typed by hand)" if hasattr(args, "query") else ""
        raise UserError("give either --similar_text_pair (queries as texts) or --queries_file (queries and a "
                        f"--corpus_file with ids){by_hand}")
    if typed and args.trec_run_file:
        raise UserError("--trec_run_file: queries typed by hand are answered on the terminal; leave it out")
    if args.queries_file and not args.trec_run_file:
        raise UserError("--queries_file needs --trec_run_file: the result is a TREC run with those ids")


def add_result_file(parser: Parser) -> None:
    """`--recall_result_dir` and `--recall_result_file`."""
    parser.add_argument("--recall_result_dir", default="recall_result", metavar="DIR",
                        help="directory of the result file [recall_result]")
    parser.add_argument("--recall_result_file", default="recall_result_file", metavar="NAME",
                        help="name of the result file: query<TAB>recalled text<TAB>cosine [recall_result_file]")
    parser.outputs.append(lambda args: [
        ("--recall_result_file", os.path.join(args.recall_result_dir, args.recall_result_file))])


def add_index(parser: Parser) -> None:
    """Flags of the vector index. None means not given: the index chooses, see ann_util.py."""
    group = parser.add_argument_group("index")
    group.add_argument("--index_type", choices=["auto", *ENGINES], default="auto",
                       help="auto: exact for small corpora, hnsw above; int8 ones: less memory; milvus: below [auto]")
    # A node's links take 8 * M bytes: 8 GB for the room of a million texts at 1024, and no corpus gains beyond 100.
    group.add_argument("--hnsw_m", type=number(int, 2, 1024, "a whole number from 2 to 1024"), metavar="N",
                       help="links a node [32]")
    group.add_argument("--hnsw_ef", type=positive_int, metavar="N",
                       help="size of the candidate list in search [max(200, 2 * recall_num)]")
    group.add_argument("--hnsw_ef_construction", type=positive_int, metavar="N",
                       help="size of the candidate list while building [200]")
    group.add_argument("--hnsw_max_elements", type=positive_int, default=1_000_000, metavar="N",
                       help="texts to allocate room for; a larger corpus gets its own size [1000000]")
    group.add_argument("--hnsw_threads", type=natural, default=0, metavar="N",
                       help="threads of build and search; 0: all cores; 1 builds the same graph each time [0]")
    add_milvus(parser)


def add_training(parser: Parser, learning_rate: float, batch_size: int, epochs: int, needs_texts: bool = True) -> None:
    """Flags of the training loop; the defaults are the recipe's for the script at hand."""
    parser.add_argument("--train_set_file", required=needs_texts, metavar="FILE", help="training texts")
    parser.add_argument("--save_dir", default="./checkpoints", metavar="DIR",
                        help="where checkpoints go [./checkpoints]")
    add_batch_size(parser, batch_size)
    add_bad_lines(parser)
    group = parser.add_argument_group("training")
    group.add_argument("--learning_rate", type=positive_float, default=learning_rate, help=f"[{learning_rate}]")
    group.add_argument("--epochs", type=natural, default=epochs,
                       help=f"passes over the data; 0 saves the encoder as it starts [{epochs}]")
    group.add_argument("--max_steps", type=natural, default=0, metavar="N", help="stop after N steps; 0: never [0]")
    group.add_argument("--weight_decay", type=nonnegative, default=0.0, help="not on biases and norms [0.0]")
    group.add_argument("--warmup_proportion", "--warmup_proption", dest="warmup_proportion", type=fraction,
                       default=0.0, help="share of the steps over which the learning rate rises [0.0]")
    group.add_argument("--warmup_steps", type=natural, default=0, metavar="N",
                       help="the same as a number of steps, in place of --warmup_proportion [0]")
    group.add_argument("--optimizer", choices=["adamw", "lamb"], default="adamw",
                       help="lamb for very large batches [adamw]")
    group.add_argument("--max_grad_norm", type=nonnegative, default=5.0, help="clip the gradient to it; 0: off [5.0]")
    group.add_argument("--gradient_accumulation_steps", type=positive_int, default=1, metavar="N",
                       help="batches a step; adds no negatives: a larger --batch_size does [1]")
    group.add_argument("--freeze_embeddings", action="store_true",
                       help="keep the word, position and type embeddings as they are; no optimizer state for them")
    group.add_argument("--freeze_layers", type=natural, default=0, metavar="N",
                       help="keep the first N layers as they are, mostly with --freeze_embeddings [0]")
    group.add_argument("--layer_decay", type=number(float, 0.01, 1, "a number from 0.01 to 1"), default=1.0,
                       metavar="D", help="each layer below the last one, and then the embeddings, learn at D times "
                                         "the rate of the layer above [1]")
    group.add_argument("--matryoshka_dims", type=number(int, 1, 65_536, "a whole number from 1 to 65536"), nargs="+",
                       metavar="D", help="train the first D numbers of each vector to serve alone too, for each D, so "
                                         "that --truncate_dim D costs little later [all numbers only]")
    group.add_argument("--use_gradient_cache", action="store_true",
                       help="encode and back-propagate a chunk at a time (GradCache): memory of --chunk_size texts, "
                            "loss and negatives of the whole --batch_size")
    either = group.add_mutually_exclusive_group()
    either.add_argument("--chunk_size", type=positive_int, metavar="N",
                        help="texts of similar length encoded at once [256; on a CPU 32, of a wide encoder 16]")
    either.add_argument("--chunk_numbers", type=positive_int, metavar="N",
                        help="the same, said as the number of chunks a batch")
    group.add_argument("--use_recompute", "--recompute", action="store_true", dest="use_recompute",
                       help="compute each encoder layer again on the way back instead of keeping what is in it: "
                            "less memory, more time")
    group.add_argument("--dropout", type=fraction,
                       help="in the encoder and after the linear layer [as the encoder was made, else 0.1]")
    group.add_argument("--head_dropout", type=fraction, help="after the linear layer, where it differs [--dropout]")
    either = group.add_mutually_exclusive_group()
    either.add_argument("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="fp32",
                        help="auto: 16 bit where the device gains by it, fp32 on a CPU [fp32]")
    either.add_argument("--use_amp", action="store_const", const="auto", dest="precision",
                        help="the recipe's name for --precision auto")
    group.add_argument("--amp_loss_scale", type=positive_float, default=32768, help="first loss scale of fp16 [32768]")
    group.add_argument("--false_negatives", choices=["mask", "no_duplicates", "keep"], default="mask",
                       help="pairs of a batch that share a text: mask leaves them out of each other's loss, "
                            "no_duplicates puts them in different batches, keep treats them as negatives [mask]")
    group.add_argument("--init_from_ckpt", metavar="PATH", help="start from this checkpoint's weights")
    group.add_argument("--log_steps", type=positive_int, default=10, metavar="N", help="steps between log lines [10]")
    group.add_argument("--save_steps", type=natural, default=10000, metavar="N",
                       help="steps between checkpoints; the last step is always saved [10000]")
    group.add_argument("--keep_checkpoints", type=natural, default=0, metavar="N",
                       help="keep the newest N and the best; 0: all [0]")
    either = group.add_mutually_exclusive_group()
    either.add_argument("--resume", action="store_true", help="go on from the latest checkpoint of --save_dir, if any")
    either.add_argument("--overwrite", action="store_true", help="remove the checkpoints that are in --save_dir first")
    add_trust(parser)
    parser.reads("train_set_file", "init_from_ckpt", "model_name_or_path")
    parser.writes("save_dir", role="save")


def add_dev(parser: Parser) -> None:
    """Flags of the evaluation during training."""
    group = parser.add_argument_group("evaluation during training")
    group.add_argument("--dev_set_file", *PAIR_FLAGS, "--test_set_file", dest="dev_set_file", metavar="FILE",
                       help="query<TAB>positive: Recall@k is measured; text<TAB>text<TAB>number: the correlation of "
                            "cosines and numbers")
    group.add_argument("--corpus_file", metavar="FILE",
                       help="texts to recall from [the training texts and the dev file's second column]")
    group.add_argument("--eval_steps", type=natural, default=0, metavar="N",
                       help="steps between evaluations; 0: after each epoch [0]")
    group.add_argument("--evaluate", nargs="?", const=True, default=False, type=truth, metavar="True",
                       help="insist on evaluation: an error where --dev_set_file is missing")
    group.add_argument("--best_metric", metavar="NAME",
                       help="what best/ and early stopping go by [recall@10; of labelled pairs spearman, in "
                            "train_labelled.py average_precision for labels 0 and 1 and no --corpus_file]")
    group.add_argument("--early_stopping", type=natural, default=0, metavar="N",
                       help="stop after N evaluations without a better one; 0: never [0]")
    group.add_argument("--recall_num", type=positive_int, default=50, metavar="N", help="texts to recall a query [50]")
    group.add_argument("--recall_result_dir", metavar="DIR",
                       help="write the newest evaluation's result file and a line of metrics there [not written]")
    group.add_argument("--recall_result_file", default="recall_result_init.txt", metavar="NAME",
                       help="name of that result file [recall_result_init.txt]")
    group.add_argument("--evaluate_result", default="evaluate_result.txt", metavar="NAME",
                       help="name of the file of metrics, a line an evaluation [evaluate_result.txt]")
    parser.reads("dev_set_file", "corpus_file")
    parser.outputs.append(lambda args: [
        (f"--{flag}", os.path.join(args.recall_result_dir, getattr(args, flag)))
        for flag in ("recall_result_file", "evaluate_result") if args.recall_result_dir])
    add_index(parser)


def training_parser(description: str, learning_rate: float, batch_size: int, epochs: int,
                    needs_texts: bool = True, max_seq_length: int = 64) -> Parser:
    """Return the command line of a training script, but for its loss; the defaults are the recipe's.

    max_seq_length: of a new encoder, for the help; models.settings has the value.
    """
    parser = Parser(description)
    add_device(parser)
    add_encoder(parser, max_seq_length)
    add_training(parser, learning_rate, batch_size, epochs, needs_texts)
    add_dev(parser)
    return parser

"""The evaluation during a training: the best checkpoint is kept, and a training that gains nothing more is ended."""

from models.encoders import dynamic
from semindex import runtime
from semindex.errors import UserError
from semindex.measure.evaluator import Evaluator
from semindex.measure.labelled import THRESHOLD
from training.run import Run


class Evaluation:
    """Measures the model of a run; every process calls it."""

    def __init__(self, run: Run, evaluator: Evaluator) -> None:
        self.run, self.evaluator = run, evaluator
        schedule = run.step.schedule
        self.metric = schedule.best_metric or evaluator.main_metric
        self.patience, self.every = schedule.early_stopping, schedule.eval_steps
        if self.metric not in evaluator.metrics:
            raise UserError(f"--best_metric {self.metric}: the evaluation gives {', '.join(evaluator.metrics)}")

    def due(self, number: int, epoch_ended: bool) -> bool:
        """Tell whether to evaluate after a step: every --eval_steps, else after each epoch, and at the end."""
        return number == self.run.total or (number % self.every == 0 if self.every else epoch_ended)

    def measure(self) -> tuple[dict[str, float], bool]:
        """Evaluate and keep the best; return the metrics, and whether to stop early."""
        run, model = self.run, self.run.step.model
        model.eval()
        result = self.evaluator(dynamic(model, run.tokenizer))
        model.train()
        model.settings.threshold = result.get(THRESHOLD)
        run.waited += 1
        if result[self.metric] > run.best:
            run.best, run.waited = result[self.metric], 0
            run.save(best=True)
        if self.patience and run.waited >= self.patience:
            runtime.say(f"no better {self.metric} in {run.waited} evaluations: stopping early")
            return result, True
        return result, False

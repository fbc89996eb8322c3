"""Learning-rate schedules: the rate of each parameter group as a function of the epoch.

A scheduler's `step()` is called once an epoch (or once a batch: an epoch is whatever lies between
two calls), after the optimiser's. Except for ReduceLROnPlateau, which looks at a metric, every rate
here is a closed formula of the epoch and of the group's first rate. PyTorch steps most of its
schedules by recurrences instead; the values are the same, but here they cannot drift, and a resumed
run needs nothing but the epoch. Two schedules of one optimiser are combined by SequentialLR, not by
stepping both.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minicnn.optim.optimizer import Optimizer


class LRScheduler:
    """Base class: a subclass gives the rate at an epoch.

    Args:
        optimizer: its groups' "lr" is set, at once for the first epoch, then by each `step()`.
        last_epoch: the epoch already done, -1 to begin; otherwise the groups must have
            "initial_lr".

    Attributes:
        last_epoch: the epoch that the current rates belong to.
        base_lrs: the groups' first rates.

    Raises:
        TypeError: when `optimizer` is not an Optimizer.
        ValueError: when `last_epoch` is given for groups without "initial_lr".
    """

    # Attributes that state_dict leaves out.
    _unsaved: tuple[str, ...] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: got {type(optimizer).__name__}, expected an Optimizer")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ValueError(
                    f"last_epoch: got {last_epoch}, but parameter group {i} has no 'initial_lr'; "
                    "load the optimiser's state first"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def lr_at(self, epoch: int, base_lr: float) -> float:
        """Return the rate at `epoch` for a group that starts from `base_lr`."""
        raise NotImplementedError(f"{type(self).__name__} defines no lr_at")

    def get_lr(self) -> list[float]:
        """Return the rate of each group at `last_epoch`."""
        return [self.lr_at(self.last_epoch, base_lr) for base_lr in self.base_lrs]

    def get_last_lr(self) -> list[float]:
        """Return the rate of each group as it was set last."""
        return list(self._last_lr)

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next epoch, or to `epoch`, and set the rates."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._last_lr = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimiser (and functions) as plain values."""
        return {key: value for key, value in vars(self).items() if key not in self._unsaved}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was called; the optimiser loads its own state.

        Raises:
            ValueError: when the state is not that of a scheduler of this class.
        """
        expected = set(self.state_dict())
        if set(state_dict) != expected:
            wrong = ", ".join(sorted(map(repr, expected ^ set(state_dict))))
            raise ValueError(f"state_dict: not the state of a {type(self).__name__} (see {wrong})")
        if len(state_dict["base_lrs"]) != len(self.base_lrs):
            raise ValueError(
                f"state_dict: got rates of {len(state_dict['base_lrs'])} parameter groups, "
                f"expected {len(self.base_lrs)}"
            )
        vars(self).update(state_dict)


class LambdaLR(LRScheduler):
    """Multiply each group's first rate by a function of the epoch.

    Args:
        lr_lambda: one function for all groups, or one for each; not part of `state_dict()`.
    """

    _unsaved = ("optimizer", "lr_lambdas")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ):
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ValueError(
                f"lr_lambda: got {len(self.lr_lambdas)} functions, expected one for each of "
                f"{groups} groups"
            )
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [
            base_lr * function(self.last_epoch)
            for base_lr, function in zip(self.base_lrs, self.lr_lambdas, strict=True)
        ]


class StepLR(LRScheduler):
    """Multiply the rate by `gamma` every `step_size` epochs."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ):
        if step_size < 1:
            raise ValueError(f"step_size: got {step_size}, expected at least 1")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return base_lr * self.gamma ** (epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """Multiply the rate by `gamma` at each of the epochs `milestones`."""

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ):
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return base_lr * self.gamma ** bisect_right(self.milestones, epoch)


class ExponentialLR(LRScheduler):
    """Multiply the rate by `gamma` every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return base_lr * self.gamma**epoch


class LinearLR(LRScheduler):
    """Move a factor on the rate in a straight line: a warm-up, or a decay.

    Args:
        start_factor: the factor at epoch 0, above 0 and at most 1.
        end_factor: the factor from epoch `total_iters` on, 0 to 1.
        total_iters: how many epochs the way takes.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ):
        if not 0 < start_factor <= 1:
            raise ValueError(f"start_factor: got {start_factor}, expected above 0 and at most 1")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"end_factor: got {end_factor}, expected between 0 and 1")
        if total_iters < 1:
            raise ValueError(f"total_iters: got {total_iters}, expected at least 1")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float) -> float:
        done = min(epoch, self.total_iters) / self.total_iters
        return base_lr * (self.start_factor + (self.end_factor - self.start_factor) * done)


class PolynomialLR(LRScheduler):
    """Lower the rate to 0 at epoch `total_iters`, along a power of what is left.

        lr = base_lr * (1 - epoch / total_iters) ** power

    Args:
        total_iters: when 0 is reached, at least 1; it stays there.
        power: 1 is a straight line, below 1 bends upwards.

    Source: Caffe, learning-rate policy "poly".
    """

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ):
        if total_iters < 1:
            raise ValueError(f"total_iters: got {total_iters}, expected at least 1")
        if power <= 0:
            raise ValueError(f"power: got {power}, expected more than 0")
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float) -> float:
        left = 1 - min(epoch, self.total_iters) / self.total_iters
        return base_lr * left**self.power


class CosineAnnealingLR(LRScheduler):
    """Lower the rate along half a cosine, from its first value to `eta_min` at epoch `T_max`.

        lr = eta_min + (base_lr - eta_min) * (1 + cos(pi * epoch / T_max)) / 2

    Past `T_max` it rises again, with period 2 * T_max.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, eq.
    5.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ):
        if T_max < 1:
            raise ValueError(f"T_max: got {T_max}, expected at least 1")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def lr_at(self, epoch: int, base_lr: float) -> float:
        return _cosine(base_lr, self.eta_min, epoch / self.T_max)


class SequentialLR(LRScheduler):
    """Run schedules one after the other, each from its own epoch 0: a warm-up, then a decay.

    Args:
        schedulers: schedules of the same optimiser.
        milestones: the epochs at which the second, the third, ... take over; increasing.
    """

    _unsaved = ("optimizer", "schedulers")

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]
    ):
        self.schedulers = list(schedulers)
        self.milestones = list(milestones)
        if len(self.schedulers) != len(self.milestones) + 1:
            raise ValueError(
                f"milestones: got {len(self.milestones)}, expected one fewer than the "
                f"{len(self.schedulers)} schedulers"
            )
        if any(a >= b for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise ValueError(f"milestones: got {self.milestones}, expected increasing epochs")
        for i, scheduler in enumerate(self.schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise TypeError(
                    f"schedulers[{i}]: got {type(scheduler).__name__}, expected an LRScheduler"
                )
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"schedulers[{i}]: belongs to another optimiser")
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        current = bisect_right(self.milestones, self.last_epoch)
        start = self.milestones[current - 1] if current else 0
        scheduler = self.schedulers[current]
        scheduler.step(self.last_epoch - start)
        return scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        states = [scheduler.state_dict() for scheduler in self.schedulers]
        return {**super().state_dict(), "schedulers": states}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        own = dict(state_dict)
        states = own.pop("schedulers", [])
        if len(states) != len(self.schedulers):
            raise ValueError(
                f"state_dict: got {len(states)} schedulers, expected {len(self.schedulers)}"
            )
        for scheduler, state in zip(self.schedulers, states, strict=True):
            scheduler.load_state_dict(state)
        vars(self).update(own)


class OneCycleLR(LRScheduler):
    """Raise the rate to `max_lr`, then lower it far below its start; stepped once a batch.

        start = max_lr / div_factor      end = start / final_div_factor

    Momentum (beta1 of Adam) goes the other way, from `max_momentum` to `base_momentum` and back.

    Args:
        max_lr: the peak, for all groups or one for each.
        total_steps: length of the cycle; or `epochs` times `steps_per_epoch`.
        pct_start: share of the cycle that rises.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: False leaves momentum alone.
        div_factor, final_div_factor: see above.
        three_phase: fall back to the start as long as it rose, then lower to the end.

    Source: Smith and Topin, "Super-Convergence", 2017; the variant of PyTorch and fastai.
    """

    _unsaved = ("optimizer", "_anneal")

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("total_steps: give it, or both epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if total_steps < 1:
            raise ValueError(f"total_steps: got {total_steps}, expected at least 1")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"pct_start: got {pct_start}, expected between 0 and 1")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f"anneal_strategy: got {anneal_strategy!r}, expected 'cos' or 'linear'"
            )
        groups = optimizer.param_groups
        peaks = [max_lr] * len(groups) if isinstance(max_lr, (int, float)) else list(max_lr)
        if len(peaks) != len(groups):
            raise ValueError(f"max_lr: got {len(peaks)} values, expected {len(groups)}")
        if cycle_momentum and not all("momentum" in g or "betas" in g for g in groups):
            raise ValueError("cycle_momentum: the optimiser has neither 'momentum' nor 'betas'")
        self.total_steps = total_steps
        self.cycle_momentum = cycle_momentum
        self._anneal = _cosine if anneal_strategy == "cos" else _line
        # Each phase: its last step, and the names of the values between which it moves.
        top = pct_start * total_steps - 1
        self._phases: list[tuple[float, str, str]] = (
            [(top, "start", "peak"), (2 * top, "peak", "start"), (total_steps - 1, "start", "end")]
            if three_phase
            else [(top, "start", "peak"), (total_steps - 1, "peak", "end")]
        )
        self._rates = [
            {"start": peak / div_factor, "peak": peak, "end": peak / div_factor / final_div_factor}
            for peak in peaks
        ]
        self._momenta = {"start": max_momentum, "peak": base_momentum, "end": max_momentum}
        if last_epoch == -1:
            for group, rates in zip(groups, self._rates, strict=True):
                group["initial_lr"] = rates["start"]
        super().__init__(optimizer, last_epoch)

    def _value(self, ends: Mapping[str, float]) -> float:
        """Return where a quantity stands at `last_epoch`, from its values at the ends of phases."""
        begin = 0.0
        for last, first_name, last_name in self._phases:
            if self.last_epoch <= last or last == self.total_steps - 1:
                done = (self.last_epoch - begin) / (last - begin) if last > begin else 1.0
                return self._anneal(ends[first_name], ends[last_name], done)
            begin = last
        raise AssertionError("the last phase ends the cycle")

    def get_lr(self) -> list[float]:
        if self.last_epoch >= self.total_steps:
            raise ValueError(
                f"OneCycleLR: step {self.last_epoch + 1} was asked of a cycle of {self.total_steps}"
            )
        if self.cycle_momentum:
            momentum = self._value(self._momenta)
            for group in self.optimizer.param_groups:
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return [self._value(rates) for rates in self._rates]


class ReduceLROnPlateau:
    """Multiply the rate by `factor` when a metric has not improved for more than `patience` epochs.

    Args:
        mode: "min" if smaller metrics are better, else "max".
        factor: below 1.
        patience: how many epochs without improvement are accepted.
        threshold: how much better counts as better.
        threshold_mode: "rel": by that share of the best so far; "abs": by that amount.
        cooldown: epochs after a reduction in which bad ones are not counted.
        min_lr: the rate is not lowered below, for all groups or one for each.
        eps: a smaller change is not made.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer: got {type(optimizer).__name__}, expected an Optimizer")
        if not 0 < factor < 1:
            raise ValueError(f"factor: got {factor}, expected above 0 and below 1")
        if mode not in ("min", "max"):
            raise ValueError(f"mode: got {mode!r}, expected 'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode: got {threshold_mode!r}, expected 'rel' or 'abs'")
        groups = len(optimizer.param_groups)
        self.min_lrs = [min_lr] * groups if isinstance(min_lr, (int, float)) else list(min_lr)
        if len(self.min_lrs) != groups:
            raise ValueError(f"min_lr: got {len(self.min_lrs)} values, expected {groups}")
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.eps = eps
        self.best: float | None = None
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.last_epoch = 0

    def step(self, metrics: Any) -> None:
        """Look at this epoch's metric, a number or a Tensor, and perhaps lower the rates."""
        metric = float(metrics)
        self.last_epoch += 1
        if self._is_better(metric):
            self.best = metric
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0

    def _is_better(self, metric: float) -> bool:
        if self.best is None:
            return not math.isnan(metric)
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            return sign * metric > sign * self.best * (1 + sign * self.threshold)
        return sign * metric > sign * self.best + self.threshold

    def _reduce(self) -> None:
        for group, min_lr in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            lowered = max(group["lr"] * self.factor, min_lr)
            if group["lr"] - lowered > self.eps:
                group["lr"] = lowered

    def get_last_lr(self) -> list[float]:
        """Return the rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimiser as plain values."""
        return {key: value for key, value in vars(self).items() if key != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was called; the optimiser loads its own state.

        Raises:
            ValueError: when the state is not that of a ReduceLROnPlateau.
        """
        if set(state_dict) != set(self.state_dict()):
            raise ValueError("state_dict: not the state of a ReduceLROnPlateau")
        vars(self).update(state_dict)


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def _line(start: float, end: float, done: float) -> float:
    return start + (end - start) * done

"""A page of MLflow's user interface that shows a sweep's runs with the columns that vary.

MLflow chooses no columns by itself, and keeps a user's own choice in the browser. What it does have is views that are
saved with the experiment (tags ``mlflow.sharedViewState.KEY``, MLflow 3.17): a link with the key opens one, and the
page's list of saved views names them all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

VIEW_TAG = "mlflow.sharedViewState."
KEY_PREFIX = "sweep-"
MAX_VIEWS = 20
"""The user interface holds 40 for each experiment, and refuses a user's own views beyond that."""
MAX_COLUMNS = 24
LETTER_WIDTH, PADDING, RUN_NAME_WIDTH = 7, 30, 200


def page(experiment_id: str, key: str | None = None) -> str:
    """Path of the table of runs, relative to MLflow's address.

    Without ``workflowType``, MLflow 3 opens on its pages for language-model traces, which are empty here.
    """
    view = f"&viewStateShareKey={key}" if key else ""
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning{view}"


def view_key(parent_run_id: str) -> str:
    """Key of the view of one sweep."""
    return f"{KEY_PREFIX}{parent_run_id}"


def save_view(
    client: Any,
    experiment_id: str,
    *,
    name: str,
    parent_run_id: str,
    parameters: Sequence[str],
    metrics: Sequence[str],
) -> str:
    """Save the view of a sweep with the experiment and remove the oldest ones of many; returns its page's path.

    Args:
        name: of the sweep, which is what the list of saved views shows.
        parameters: that vary; they come first.
        metrics: shown after them; the rows are ordered by the first one, best first.
    """
    tags = client.get_experiment(experiment_id).tags
    key = view_key(parent_run_id)
    created_ms = _created_ms(tags.get(VIEW_TAG + key)) or int(time.time() * 1000)
    saved = {
        "name": name,
        "createdAt": created_ms,
        "updatedAt": int(time.time() * 1000),
        "state": json.dumps(view_state(parent_run_id, parameters, metrics)),
    }
    value = json.dumps(saved)
    client.set_experiment_tag(experiment_id, VIEW_TAG + key, value)
    for old in saved_views({**tags, VIEW_TAG + key: value})[MAX_VIEWS:]:
        client.delete_experiment_tag(experiment_id, VIEW_TAG + old)
    return page(experiment_id, key)


def saved_views(tags: Mapping[str, str]) -> list[str]:
    """Keys of the sweeps' views among an experiment's tags, newest first."""
    found = {tag: created for tag, value in tags.items() if (created := _created_ms(value)) and _is_ours(tag)}
    return [tag.removeprefix(VIEW_TAG) for tag in sorted(found, key=lambda tag: -found[tag])]


def view_name(value: str) -> str:
    """Name of the view that an experiment's tag holds."""
    return str(json.loads(value)["name"])


def view_state(parent_run_id: str, parameters: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    """State of the page: the sweep's runs only, since MLflow shows the children of a run folded away."""
    named = [("params", name) for name in parameters] + [("metrics", name) for name in metrics]
    columns = {f"{kind}.`{name}`": name for kind, name in [*named[:MAX_COLUMNS], ("tags", "status")]}
    state: dict[str, Any] = {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{parent_run_id}'",
        "selectedColumns": list(columns),
        # Without an order, metrics come before parameters, and what varies lies beyond the edge of the window.
        "columnOrder": ["attributes.`Run Name`", "runDateAndNestInfo", *columns],
        "columnWidths": {
            "attributes.`Run Name`": RUN_NAME_WIDTH,
            **{key: PADDING + len(name) * LETTER_WIDTH for key, name in columns.items()},
        },
    }
    if metrics:
        state |= {"orderByKey": f"metrics.`{metrics[0]}`", "orderByAsc": False}
    return state


def _is_ours(tag: str) -> bool:
    return tag.startswith(VIEW_TAG + KEY_PREFIX)


def _created_ms(value: str | None) -> int | None:
    try:
        return int(json.loads(value or "")["createdAt"])
    except (ValueError, KeyError, TypeError):  # a view of another version, or a user's own
        return None

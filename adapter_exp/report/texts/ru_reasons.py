"""Reasons and gates in Russian. A placeholder may say how its value is shown: see ``texts.ReasonFormatter``."""

SENTENCES = {
    # words of the records
    "word.base": "база",
    "word.adapted": "с адаптером",
    "word.special": "специальная",
    "word.general": "общая",
    "word.unknown": "неизвестно",
    "word.queued": "в очереди",
    "word.running": "выполняется",
    "word.failed": "сбой",
    "word.oom": "не хватило памяти",
    "word.cancelled": "отменено",
    # why a folder takes no part
    "reason.no_folder": "это не папка; укажите папку запуска или серии",
    "reason.no_runs": "в папке нет ни одного запуска",
    "reason.not_finished": "запуск не завершился как надо: {status} ({error})",
    "reason.record_invalid": "в record.json нет того, что должно быть: {text}",
    "reason.no_record": "нет record.json (состояние задания: {state})",
    "reason.record_damaged": "record.json обрезан или повреждён ({detail})",
    "reason.record_schema": "record.json имеет схему {found}, эта версия читает только {wanted}",
    "reason.nothing_scored": "в записи нет ни одной оценки",
    "reason.predictions_missing": "нет файла {file}: парное сравнение невозможно",
    "reason.predictions_damaged": "файл {file} повреждён ({detail}); повторите оценку",
    "reason.duplicate_items": "{file}: один пример встречается дважды; повторите оценку",
    "reason.items_differ": "{task}: база и адаптер оценены на разных примерах (различаются: {count}, первый — {item})",
    "reason.task_unknown": "{task}: эта версия не знает такой задачи или её настроек",
    "reason.metrics_differ": (
        "{task} ({model}): метрика {metric} равна {record:score} в записи, но {predictions:score} по ответам модели"
    ),
    "reason.same_folder": "папка названа дважды; прочитана один раз",
    "reason.same_run": "те же конфигурация, seed ({seed}) и оценки, что и в {folder}; учтён только тот запуск",
    "reason.same_run_other_scores": (
        "те же конфигурация и seed ({seed}), что и в {folder}, но оценки другие; учтён только тот запуск"
    ),
    # why runs fall into groups
    "reason.other_source": "числа, взятые из источника «{source}», получены на других примерах",
    "reason.other_checkpoint": "другая базовая модель: {other} ({other_checkpoint}), а не {model} ({checkpoint})",
    "reason.other_tasks": "оценка на задачах: {other}, а не {tasks}",
    "reason.other_role": "у задачи {task} другая роль ({other}, а не {role})",
    "reason.other_items": "{task}: другие примеры ({other}, а не {items}; общих: {common})",
    "reason.other_settings": "{task}: {key} = {other}, а не {value}",
    "reason.other_prompts": (
        "{task}: запросы различаются как последовательности токенов (примеров: {changed} из {items})"
    ),
    "reason.other_documents": "{task}: примеры взяты из других документов",
    # warnings
    "reason.budget_differs": "бюджеты обучения различаются, {key}: {values}",
    "reason.learning_rate_effort": "скорости обучения подбирались неодинаково: {rates}",
    "reason.versions_differ": "запуски сделаны на разных версиях {library}: {values}",
    "reason.commits_differ": "запуски сделаны на разных состояниях программы: {values:hash}",
    "reason.devices_differ": "запуски сделаны на разных устройствах: {values}",
    "reason.dtypes_differ": "запуски сделаны в разных числовых форматах: {values}",
    "reason.one_seed": "только один seed, разброс между seed неизвестен: {configurations}",
    "reason.seeds_differ": "у конфигураций разные наборы seed: {seeds}",
    "reason.task_missing": "{task}: конфигурация {configuration} оценена там не со всеми seed и потому не участвует",
    "reason.base_differs": (
        "{task}: ответы базы ({quantization}) различались (запусков: {runs} из {total}); взято среднее"
    ),
    "reason.few_documents": "{task}: документов мало ({documents}), интервалы, вероятно, слишком узкие",
    "reason.coarse_p": (
        "{task}: слишком много пар ({comparisons}), чтобы {flips} перестановок могли различить хотя бы одну; "
        "сравнивайте меньше запусков"
    ),
    "reason.base_missing": ("{task}: у конфигурации {configuration} нет оценок базы (seed: {seeds}), строк там нет"),
    "reason.metric_unknown": "{task}: {metric} не входит в метрики задачи, поэтому ни интервала, ни теста нет",
    "reason.metric_missing": (
        "{task}: у конфигурации {configuration} нет метрики {metric} (seed: {seeds}), строки там нет"
    ),
    "reason.metric_not_finite": (
        "{task}: у конфигурации {configuration} метрика {metric} не является конечным числом (seed: {seeds}), "
        "строки там нет"
    ),
    "reason.base_only": "оценены только базовые модели; сравнивать их не с чем",
    # gates
    "gate.one_label": "одна метка",
    "gate.majority": "тривиальный ответ",
    "gate.overlap": "пересечение с обучением",
    "gate.truncated_targets": "обрезанные ответы",
    "gate.all_masked": "примеры без токенов в функции потерь",
    "gate.eos_unsupervised": "нет токена конца",
    "gate.parse_failures": "нечитаемые ответы",
    "gate.base_changed": "база изменилась",
    "gate.loss_exploding": "функция потерь растёт",
    "gate.loss_not_falling": "функция потерь не падает",
    "gate.adapter_without_effect": "нет эффекта",
    "gate.bytes_mismatch": "размер на диске",
    "gate.impossible_f1": "невозможная F1",
    "gate.fits_one_label": "похоже на одну метку",
    "gate.equals_base": "числа базы",
    "reason.one_label": "различных правильных ответов среди примеров ({items}): {distinct}",
    "reason.majority": "{metric} = {score:score}, лучший тривиальный ответ даёт {trivial:score}",
    "reason.overlap": (
        "примеров теста, которые есть в обучении: {same} из {items}; документов и посылок, которые есть и в "
        "обучении: {shared_groups} из {groups}"
    ),
    "reason.truncated_targets": (
        "обучающих примеров, потерявших конец ответа: {truncated} из {rows} (предел {limit:percent})"
    ),
    "reason.all_masked": "обучающих примеров без токенов в функции потерь: {unsupervised} из {rows}",
    "reason.eos_unsupervised": (
        "примеров, где токен конца входит в функцию потерь: {with_end}; необрезанных примеров: {whole} из {rows}"
    ),
    "reason.parse_failures": "ответов, которые не удалось прочесть: {unparsed} из {items} (предел {limit:percent})",
    "reason.base_changed": "веса базы до обучения {before:hash}, после — {after:hash}",
    "reason.loss_not_falling": (
        "функция потерь: от {start:score} до {end:score} (средние первой и последней пятой части)"
    ),
    "reason.loss_exploding": (
        "функция потерь: от {start:score} до {end:score} (средние первой и последней пятой части; предел: начало × "
        "{limit})"
    ),
    "reason.loss_not_finite": "записанное значение функции потерь под номером {number} — не число: {loss}",
    "reason.adapter_without_effect": "ответов, отличных от ответов базы: {changed} из {items}",
    "reason.bytes_mismatch": (
        "сохранённые тензоры занимают {tensor_bytes:whole} Б, а параметры ({parameters:whole} по "
        "{bytes_per_parameter} Б) — {expected:whole} Б"
    ),
    "reason.impossible_f1": (
        "{metric} ({of}) = {f1:score}, но точность {precision:score} и полнота {recall:score} допускают не больше "
        "{limit:score}: эти числа взяты не из одной оценки"
    ),
    "reason.fits_one_label": (
        "макроточность 0.5, полнота в половину доли верных ответов и F1 = доля / (1 + доля) подходят к набору с "
        "одной верной меткой (доля верных ответов: {accuracy:score}): любой постоянный ответ там либо весь верен, "
        "либо весь неверен"
    ),
    "reason.equals_base": "чисел, равных числам базы: {equal} из {figures}",
}

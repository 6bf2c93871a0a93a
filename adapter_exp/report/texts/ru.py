"""The report in Russian. Sentences are built so that no number has to agree with a word in case."""

from __future__ import annotations

from adapter_exp.report.texts import ru_reasons

NOUNS = {
    "run": ("запуск", "запуска", "запусков"),
    "configuration": ("конфигурация", "конфигурации", "конфигураций"),
    "item": ("пример", "примера", "примеров"),
    "number": ("число", "числа", "чисел"),
}

SENTENCES = ru_reasons.SENTENCES | {
    "title": "Сравнение адаптеров",
    "list_end": "{first} и {last}",
    "more": "ещё {number}",
    "contents": "Содержание",
    "unit.s": "с",
    "unit.min": "мин",
    "unit.h": "ч",
    "unit.b": "Б",
    "unit.kib": "КиБ",
    "unit.mib": "МиБ",
    "unit.gib": "ГиБ",
    "unit.tokens_per_s": "{number} ток./с",
    "group.title": "Группа {number}: {model}",
    "intro.compared": "сравнено",
    "intro.base_only": "из них только база: {number}",
    "intro.refused": "отклонено: {number}",
    "intro.method": (
        "Разности парные: по одним и тем же примерам. В скобках — {confidence}-ные интервалы (бутстреп по целым "
        "документам, повторов: {resamples}). Выводы даны с поправкой Холма на уровне {alpha}. Выводы относятся к "
        "запущенным seed. Ничья значит, что различие не выявлено; равенства она не доказывает."
    ),
    "intro.groups": "Все запуски сравнить друг с другом нельзя. Они распались на группы (всего {number}):",
    "intro.split": "группа {number}: {reason}",
    "intro.nothing": "Ни один запуск не удалось сравнить.",
    # 1. what was compared
    "setup.title": "Что сравнивалось",
    "setup.model": "базовая модель",
    "setup.imported": "источник чисел",
    "setup.checkpoint": "веса (SHA-256)",
    "setup.quantization": "квантование",
    "setup.configurations": "конфигураций",
    "setup.runs": "запусков",
    "setup.runs_seeds": "{runs}; seed: {seeds}",
    "setup.base_runs": "запусков одной базы",
    "setup.varying": "что менялось",
    "setup.learning_rates": "испытанные скорости обучения",
    "setup.rates_of_kind": "{kind}: {values} (значений: {number})",
    "setup.devices": "устройство",
    "setup.compute_dtypes": "числовой формат",
    "setup.versions": "версии",
    "setup.commits": "коммит",
    "setup.data": "Данные",
    "setup.warnings": "Что нужно знать, прежде чем верить разнице:",
    "budget.equal": "Бюджет обучения у всех конфигураций одинаков.",
    "budget.title": "Бюджет обучения",
    "budget.examples": "примеров",
    "budget.epochs": "эпох",
    "budget.steps": "шагов",
    "budget.tokens": "токенов",
    "budget.learning_rate": "скорость обучения",
    "role.special": "специальная",
    "role.general": "общая",
    "split.train": "обучение",
    "split.validation": "валидация",
    "split.test": "тест",
    "quantization.none": "без квантования",
    "column.task": "задача",
    "column.split": "часть",
    "column.items": "примеров",
    "column.documents": "документов",
    "column.truncated": "обрезано",
    "column.tokens": "токенов",
    "column.fingerprint": "отпечаток",
    "column.configuration": "конфигурация",
    "column.metric_and_configuration": "метрика, конфигурация",
    "column.metric_and_pair": "метрика, пара",
    "column.score": "значение",
    "column.change": "изменение",
    "column.difference": "разница",
    "column.p_holm": "p (Холм)",
    "column.finding": "вывод",
    "column.place": "место",
    "column.seeds": "seed",
    "column.by_seed": "значение по seed",
    "column.seed_sd": "СКО",
    "column.folder": "папка",
    "column.reason": "причина",
    "column.gate": "проверка",
    "column.withholds": "что снимает",
    # 2. adapters
    "adapters.title": "Адаптеры",
    "adapters.none": "Оценены только базовые модели: адаптеров нет.",
    "adapters.parameters": "обучаемых параметров",
    "adapters.share": "доля от базы",
    "adapters.r": "r",
    "adapters.alpha": "alpha",
    "adapters.hidden": "скрытая размерность",
    "adapters.layers": "слои",
    "adapters.modules": "целевые модули",
    "adapters.dropout": "dropout",
    "adapters.quantization": "квантование базы",
    "adapters.bytes": "на диске",
    # 3. results
    "results.title": "Результаты по задачам",
    "results.legend": (
        "▲ выше и ▼ ниже базы (в таблицах пар: первая против второй) с поправкой Холма; без знака: ничья или не "
        "проверялось; знак ? — вывод снят проверкой, см. раздел 7. В круглых скобках — относительное изменение, "
        "прочерк — там, где база получила 0."
    ),
    "results.task": "{task} ({role} задача)",
    "results.items": "Оценка на тесте: {items}; документов, по которым шёл бутстреп: {documents}.",
    "results.imported": "Числа без ответов модели: ни интервалов, ни тестов для них не получить.",
    "results.no_metrics": "Показать нечего: метрик нет.",
    "results.primary": "Главная метрика: {metric}",
    "results.others": "Остальные метрики",
    "results.missing": ("Нет или не конечны, поэтому без строк: {metric} — у конфигураций {names} (всего {number})."),
    "results.every_metric": "все метрики",
    "results.compact_note": (
        "За значением — изменение относительно базы. Интервалы, тесты и значения p — в файле runs.csv, его пишет "
        "--output ПАПКА."
    ),
    "row.base": "база",
    "row.base_quantized": "база ({quantization})",
    "row.trivial": "лучший тривиальный ответ",
    "verdict.higher": "выше",
    "verdict.lower": "ниже",
    "verdict.tie": "ничья",
    "verdict.withheld": "вывод снят",
    "verdict.not_measured": "не проверялось",
    "pairs.title": "Адаптеры между собой",
    "pairs.names": "{first} против {second}",
    "pairs.note": (
        "Лучшая против всех и лучшие каждого вида между собой; все пары — в файле pairs.csv, его пишет --output ПАПКА."
    ),
    # 4. ranking
    "ranking.title": "Распределение мест",
    "ranking.legend": (
        "Конфигурации на одном месте нельзя отличить от первой на нём. Порядок внутри одного места ничего не значит."
    ),
    "ranking.task": "{task}, {metric}",
    "ranking.places": "Места",
    "ranking.alone": "Конфигурация одна: расставлять по местам нечего.",
    "ranking.no_places": "Мест нет: тесты невозможны или выводы сняты проверками.",
    "ranking.unranked": "Без места (теста нет, или вывод снят проверкой): {names}.",
    "ranking.smallest_base": (
        "Наименьшее изменение относительно базы, которое этот тест нашёл бы с вероятностью 80%: {difference}."
    ),
    "ranking.smallest_pair": "То же для разницы между двумя конфигурациями: {difference}.",
    "seeds.one": "У каждой конфигурации один seed: разброс между seed неизвестен.",
    "seeds.title": "Разброс между seed отдельно от эффекта адаптера",
    "seeds.note": (
        "СКО — стандартное отклонение по seed. Если оно больше изменения, другой seed мог бы изменить и знак."
    ),
    # 5. forgetting
    "forgetting.title": "Прирост и забывание",
    "forgetting.none": "Не измерялось: нужны оценки и на специальной, и на общей задаче.",
    "forgetting.legend": (
        "Прирост и забывание — парные изменения главных метрик; меньше 0 на общей задаче — забыто. Баланс — "
        "показатель из опубликованного отчёта: сумма относительных изменений макро-F1 на обеих задачах; прочерк — "
        "там, где база получила 0 или макро-F1 нет. Сумма абсолютных изменений есть и там, где база получила 0."
    ),
    "forgetting.table": "Прирост на {special}, забывание на {general}",
    "forgetting.gain": "прирост",
    "forgetting.forgetting": "общая задача",
    "forgetting.published": "баланс",
    "forgetting.absolute": "абсолютная сумма",
    # 6. cost
    "cost.title": "Стоимость",
    "cost.none": "О стоимости в записях ничего нет.",
    "cost.table": "Стоимость одного запуска (медиана по seed)",
    "cost.parameters": "обучаемых параметров",
    "cost.training": "обучение",
    "cost.wall": "весь запуск",
    "cost.speed": "скорость",
    "cost.rss": "пик памяти",
    "cost.device": "пик памяти GPU",
    "cost.saved": "на диске",
    "cost.note": (
        "Запуски с общей загруженной базой или сохранёнными оценками заняли меньше времени, чем заняли бы отдельно."
    ),
    "front.title": "Фронт Парето: прирост, забывание и обучаемые параметры",
    "front.share": "на фронте",
    "front.note": (
        "Доля повторов бутстрепа, в которых ни другая конфигурация, ни база (без изменений и без параметров) не хуже "
        "по приросту, забыванию и обучаемым параметрам и лучше хотя бы по одному из них. Стоимость здесь — только "
        "обучаемые параметры, без времени и памяти. Знак ? — проверки снимают хорошие выводы на одной из задач: это "
        "число, а не утверждение."
    ),
    # 7. gates
    "gates.title": "Проверки",
    "gates.none": "Ни одна проверка не снимает выводов.",
    "gates.withheld": "Выводы, снятые проверками (числа остаются):",
    "gates.warnings": "Не пройдены, но выводов не снимают:",
    "gates.no_refused": "Отклонённых запусков нет.",
    "gates.refused": "Отклонённые запуски: {number}",
    "gates.refused_title": "Отклонённые запуски",
    "gates.all": "все",
    "gates.seeds": "{name} (seed: {seeds})",
    "gates.likewise": "{reason} (другие seed так же: {number})",
    "withholds.nothing": "ничего",
    "withholds.all": "все выводы",
    "withholds.good": "все, кроме вывода «ниже»",
    # 8. conclusions
    "conclusions.title": "Выводы",
    "conclusions.base_only": "Оценены только базовые модели: об адаптерах сказать нечего.",
    "conclusions.said": "Что позволяют сказать числа",
    "conclusions.next": "Что запустить дальше",
    "said.alone": (
        "Серия из одной точки ({configurations}, {runs}): её можно сравнить с базой, но расставлять по местам нечего."
    ),
    "said.tried": (
        "Испытано: {configurations}, {runs}. Лидер ниже — лучший из них на тесте, поэтому его результат там "
        "завышен отбором; выбор на валидации с отчётом на тесте от этого свободен."
    ),
    "said.against_base": "{task}, {metric}, относительно базы — {parts}.",
    "said.part": "{finding}: {names}",
    "said.part_tie": "ничья (различие не выявлено): {names}",
    "said.no_loss_shown": (
        "«Различие не выявлено» на задаче {task} не значит, что ничего не забыто: изменение меньше {smallest} часто "
        "осталось бы незамеченным."
    ),
    "said.role_special": "на специальной задаче {task}",
    "said.role_general": "на общей задаче {task}",
    "said.best": (
        "Лучший результат {role}: {name}, {metric} {score}, изменение {change}. Показано, что он выше всех "
        "остальных конфигураций с местами и выше базы."
    ),
    "said.best_not_base": (
        "Самое высокое значение {role}: {name}, {metric} {score}, изменение {change}. Показано, что оно выше всех "
        "остальных конфигураций с местами, но не показано, что выше базы."
    ),
    "said.only_ranked": (
        "Место {role} есть только у {name}: {metric} {score}, изменение {change}; показано, что это выше базы. "
        "Сравнить с другими было нельзя."
    ),
    "said.only_ranked_not_base": (
        "Место {role} есть только у {name}: {metric} {score}, изменение {change}; не показано, что это выше базы."
    ),
    "said.tied": (
        "Единственного лучшего {role} нет, ничья: первое место делят {names}. Самое высокое значение у {name} "
        "({metric} {score}), и тест не отличает от неё остальные конфигурации этого места."
    ),
    "said.unseen": "Разница меньше {smallest} часто осталась бы незамеченной.",
    "said.none_above_base": "Ни про одну из них не показано, что она выше базы.",
    "said.untested": (
        "Проверить {role} ничего нельзя. Самое высокое число: {names}, {metric} {score}, изменение {change}."
    ),
    "said.withheld": "О лучшем результате {role} сказать нечего.",
    "said.left_out": "Не получили места {role} из-за проверок ({gates}): {names}.",
    "said.left_out_untested": "Не получили места {role}, так как тест невозможен: {names}.",
    "said.same_as_base": "{name} против базы — ничья. Сравнено: {numbers}, все равны числам базы.",
    "said.tie_withheld": "Этот вывод о ничьей снят проверками: {gates}.",
    "said.balance": "Самый высокий баланс ({special} и {general}): {names}, {score}.",
    "said.balance_absolute": "Самая большая сумма абсолютных изменений ({special} и {general}): {names}, {score}.",
    "said.balance_untested": "Интервала у него нет, так что порядок балансов не проверен.",
    "said.balance_near": (
        "Не подтверждено, что ниже него следующие (каждое сравнение отдельно, без поправки): {names}."
    ),
    "said.balance_zero": "Интервал содержит 0.",
    "said.number_only": "Проверки ({gates}) снимают выводы на задачах: {tasks}; это число, а не утверждение.",
    "said.validation": "Выбор на валидации ({task}, {metric} {validation}): {names}.",
    "said.validation_test": "Результат на тесте (в выборе тест не участвовал): {test}.",
    "said.validation_untested": "Результата на тесте нет: {names}.",
    "said.no_validation": (
        "Не у всех запусков на задаче {task} есть оценка на валидации, поэтому выбора на валидации нет."
    ),
    "next.none": "Эти тесты не оставили вопросов, которые решил бы ещё один такой запуск.",
    "next.all_tasks": "все задачи",
    "next.repair": (
        "{task}: сначала исправьте то, что нашли проверки ({gates}); до этого новые запуски там не помогут."
    ),
    "next.failing": "{task}: прежде чем запускать похожее, выясните, что не так с {names} (проверки: {gates}).",
    "next.edge_high": (
        "{kind}: самое высокое значение — на верхней границе диапазона {axis} (испытано: {tried}). Попробуйте "
        "{following} и больше."
    ),
    "next.edge_low": (
        "{kind}: самое высокое значение — на нижней границе диапазона {axis} ({value}; испытано: {tried}). "
        "Попробуйте меньше."
    ),
    "next.flat_axis": (
        "{kind}: между значениями {axis} ({tried}) при прочих равных различие не выявлено; различие меньше "
        "{smallest} могло остаться незамеченным. Меняйте что-нибудь другое."
    ),
    "next.single_setting": (
        "Испытаны только в одной настройке: {names}. С другим размером или другой скоростью обучения порядок может "
        "измениться: переберите их, прежде чем выбирать вид адаптера."
    ),
    "next.items_base": (
        "{task}: чтобы отличить {name} от базы, нужно примерно {needed} тестовых примеров (сейчас {items}), если "
        "наблюдаемое изменение ({difference}) истинное."
    ),
    "next.items_pair": (
        "{task}: чтобы отличить {first} от {second}, нужно примерно {needed} тестовых примеров (сейчас {items}), "
        "если наблюдаемая разница ({difference}) истинная."
    ),
    "next.items_now": "{items}, документов: {documents}; при том же числе примеров на документ",
    "next.items_base_too_many": (
        "{task}: отличие {name} от базы ({difference}), если оно есть, слишком мало для этого набора: понадобилось "
        "бы более чем в {times} раз больше примеров."
    ),
    "next.items_pair_too_many": (
        "{task}: различие между {first} и {second} ({difference}), если оно есть, слишком мало для этого набора: "
        "понадобилось бы более чем в {times} раз больше примеров."
    ),
    "next.few_seeds": (
        "Запустите не менее чем с {wanted} разными seed: {names}. По меньшему числу о разбросе судить нельзя."
    ),
    "next.seed_spread": (
        "{task}, {metric}: разброс между seed больше изменения у {names}. Прежде чем делать выводы, нужны запуски с "
        "новыми seed."
    ),
    "next.sweep": "Сравните её с чем-нибудь: с адаптером другого вида или другого размера.",
    "next.refused": "Посмотрите отклонённые запуски (всего {number}): доведите их до конца или повторите.",
    # plots
    "plot.change.title": "{task}: изменение {metric} относительно базы",
    "plot.change.x": "изменение {metric}, с интервалом",
    "plot.change.band": "меньшие изменения часто остались бы незамеченными",
    "plot.change.base": "нет изменения",
    "plot.forgetting.title": "Прирост на {special} и изменение на {general}",
    "plot.forgetting.x": "изменение на {general} ({metric}); левее 0 — забыто",
    "plot.forgetting.y": "прирост на {special} ({metric})",
    "plot.hollow": "пустой знак: вывод снят проверкой",
    "plot.cost.title": "{task}: {metric} и стоимость",
    "plot.cost.parameters": "обучаемых параметров",
    "plot.cost.training": "время обучения, с",
    "plot.cost.memory": "пик памяти, ГиБ",
    "plot.axis.title": "{task}: {metric} в зависимости от {axis}",
    "plot.axis.band": "полоса и мелкие точки: разброс по seed",
    "plot.loss.title": "Функция потерь при обучении",
    "plot.loss.x": "шаг оптимизатора",
    "plot.loss.y": "функция потерь, нат на токен ответа",
    "plot.loss.mean": "скользящее среднее, усреднено по seed",
}

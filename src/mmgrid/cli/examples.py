"""The groups of the commands, in the order of work, and an example of each command for its help.

A line has at most 56 signs, so that it fits a terminal of 60 columns.
"""

GROUPS: dict[str, tuple[str, ...]] = {
    "Data": ("data",),
    "A grid": ("init", "plan", "run", "logs", "status", "path", "why", "verify", "store", "gc"),
    "Results": ("results", "report", "advise", "predictors"),
    "A model": ("recommend", "evaluate", "embed", "codes", "push", "pull", "import", "export"),
    "Merging": ("merge", "learn", "search", "methods", "diff", "extract-lora", "expand", "compress"),
    "This machine": ("doctor",),
}

EXAMPLES: dict[str, str] = {
    "data prepare": """\
mmgrid data prepare --ratings games.csv.gz \\
    --items meta_games.jsonl.gz --out data/games""",
    "data fetch": "mmgrid data fetch my-grid.toml --from hub",
    "data stats": "mmgrid data stats grids/demo.toml",
    "data export": """\
mmgrid data export grids/demo.toml --to recbole \\
    --domain games -o recbole""",
    "init": "mmgrid init my-grid.toml",
    "plan": "mmgrid plan grids/demo.toml --only 'checkpoint/*'",
    "run": """\
mmgrid run grids/demo.toml
mmgrid run grids/demo.toml --only 'checkpoint/semb/*'
mmgrid run grids/demo.toml \\
    --set paradigms.sasrec.dropout=0.1""",
    "logs": """\
mmgrid logs grids/demo.toml \\
    checkpoint/semb/games/phase2 --follow""",
    "status": "mmgrid status grids/demo.toml",
    "path": "cd $(mmgrid path grids/demo.toml corpus/games)",
    "why": "mmgrid why grids/demo.toml checkpoint/semb/games/phase1",
    "verify": "mmgrid verify grids/demo.toml --repair",
    "store push": """\
mmgrid store push grids/demo.toml s3://lab/demo
mmgrid store push runs s3://lab/all \\
    --only 'checkpoint/*'""",
    "store pull": "mmgrid store pull grids/demo.toml s3://lab/demo",
    "store verify": "mmgrid store verify s3://lab/demo --deep",
    "gc": "mmgrid gc grids/demo.toml",
    "results": """\
mmgrid results grids/demo.toml --metric ndcg@20
mmgrid results grids/demo.toml --study temporal""",
    "report": "mmgrid report grids/demo.toml -o demo.html",
    "advise": "mmgrid advise grids/demo.toml --domain games",
    "predictors": """\
mmgrid predictors grids/demo.toml
mmgrid predictors grids/windows/*.toml""",
    "recommend": """\
mmgrid recommend checkpoint/semb/games/phase2 \\
    --grid grids/demo.toml --history ITEM,ITEM -k 3
mmgrid recommend models/semb --domain-dir data/games \\
    --users users.parquet -o best.parquet""",
    "embed": """\
mmgrid embed models/semb --domain-dir data/games \\
    --items data/games/items.parquet -o items.parquet""",
    "evaluate": """\
mmgrid evaluate checkpoint/semb/games/phase2 \\
    --grid grids/demo.toml
mmgrid evaluate models/semb --domain-dir data/games""",
    "codes add": """\
mmgrid codes add checkpoint/semid/games/phase2 \\
    --grid grids/demo.toml --items new.csv \\
    -o games-new --domain-out data/games-new""",
    "push": """\
mmgrid push checkpoint/semb/games/phase2 \\
    --grid grids/demo.toml --repo me/semb-games""",
    "pull": "mmgrid pull me/semb-games@main -o semb-games",
    "import": "mmgrid import --from hllm hllm-books -o books",
    "export": """\
mmgrid export checkpoint/semb/games/phase2 \\
    --grid grids/demo.toml --to hllm -o hllm-games""",
    "extract-lora": """\
mmgrid extract-lora tuned --base base -o adapter
mmgrid extract-lora tuned --base base --rank 16 \\
    -o small
mmgrid extract-lora tuned --base base --energy 0.9 \\
    -o faithful""",
    "expand": "mmgrid expand family --domain games -o games",
    "compress": """\
mmgrid compress tuned --base base --bits 4
mmgrid compress tuned --base base --exact -o packed""",
    "merge": """\
mmgrid merge recipe.yml merged
mmgrid merge --family recipe.yml family
mmgrid merge --method ties --base base \\
    --model garden:0.5 --model kitchen:0.5 -o merged
mmgrid merge --method linear --grid grids/demo.toml \\
    --model checkpoint/semb/games/phase1 \\
    --model checkpoint/semb/games/phase2 -o merged""",
    "learn": """\
mmgrid learn mergerec --grid grids/demo.toml \\
    --model checkpoint/semb/garden/phase2 \\
    --model checkpoint/semb/games/phase2 \\
    --base base/semb --option per=layer -o learned.yml
mmgrid merge learned.yml merged""",
    "search": """\
mmgrid search grids/demo.toml shared --trials 40 \\
    --over scale=0.2..1.5 \\
    --over options.density=0.01..1:log -o best.yml""",
    "methods": "mmgrid methods ties",
    "diff": """\
mmgrid diff garden kitchen --base base
mmgrid diff checkpoint/semb/games/phase1 \\
    checkpoint/semb/games/phase2 --grid grids/demo.toml""",
    "doctor": "mmgrid doctor",
}

"""What an objective means: from a syntax tree to the graphs, tables and programs that a runtime executes.

Nothing here imports torch. `docs/architecture.md` follows one objective through the stages and explains the words used here.

Packages, in the order in which data pass through them:

| package | what it does |
|---|---|
| `elaborate` | expressions of the language to core nodes, with kinds, axes and presence; every error of a file |
| `core` | the graph: node types, constructors, traversal |
| `simplify` | the graph to normal form, by rewrite rules that are data |
| `table` | the statistic table of an objective over a class axis |
| `kernels` | tables as C and Triton source |
| `sweeps` | tables as torch operations on blocks of rows |
| `rows` | what stands around the sweeps, on rows, as C source |
| `emission` | graphs as straight-line programs of torch operations |
| `plan` | what is computed in how many passes, and in how much memory |
| `display` | equations: plain text and LaTeX |

Modules of this folder:

| modules | what they do |
|---|---|
| `check`, `program` | checks a whole file; the result |
| `gather`, `symbols`, `library`, `mentions`, `unread`, `builtins` | names: where they are declared and imported |
| `values`, `kinds`, `intervals`, `finite`, `constants` | what is known of a value: kind, presence, domain |
| `statements`, `usual`, `lints` | states, constraints and reductions of a file; warnings |
| `resolve`, `prompt` | a file with its imports written out; a file from an expression typed at a prompt |
| `primitives`, `formula`, `derivative`, `steep`, `algebra` | the table of elementwise functions, and calculus with it |
| `normalise`, `verify` | terms as `sum_k c_k * N_k / D_k`; what a well-formed graph is |
| `settle`, `given`, `draws` | programs before they run: choices made, lets given by the caller, draws as tensors |
| `lagrangian`, `renewal`, `sparse` | constraints as terms; states and multipliers after a step |
| `cut`, `pairs` | programs divided into tables and the rest; matrices of all pairs |
| `catalogue`, `zoo`, `zoo_pages` | pages about the library and the zoo, made from the specs |
| `faults` | the exception for faults of the compiler itself |
"""

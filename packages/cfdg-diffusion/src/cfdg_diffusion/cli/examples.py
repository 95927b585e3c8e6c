"""Last paragraphs of the help of every command: examples, and what one has to know beside the options."""

EXAMPLES = """examples:
  cfdg-diffusion fit adult.csv --label income -o model/
  cfdg-diffusion sample model/ -n 5
  cfdg-diffusion sample model/ -n 10_000 -o synthetic.csv
  cfdg-diffusion sample model/ -n 500 --label '>50K' -o rich.csv
  cfdg-diffusion report adult.csv synthetic.csv --label income -o report.html

'cfdg-diffusion COMMAND --help' has examples of each command. Tables are .csv, .tsv and .parquet files."""

FIT_EXAMPLES = """examples:
  cfdg-diffusion fit adult.csv --dry-run                     what each column will be taken for; trains nothing
  cfdg-diffusion fit adult.csv -o model/                     learn the table
  cfdg-diffusion fit adult.csv --label income -o model/      ... so that rows of one income can be asked for
  cfdg-diffusion fit adult.csv --label income,sex -o model/  ... of one combination of income and sex
  cfdg-diffusion fit adult.csv --drop name,id --kinds zip=category,code=text -o model/
  cfdg-diffusion fit stays.csv --constraint 'age: 0..120' --constraint 'arrival <= departure' \\
                     --constraint 'fixed: city, country' -o model/
  cfdg-diffusion fit europe.csv --separator ';' --decimal , --kinds day=datetime:%d.%m.%Y -o model/
  cfdg-diffusion fit ratings.csv --keep-range stars,age -o model/
  cfdg-diffusion fit big.parquet --time-budget 5m --history loss.csv -o model/
  cfdg-diffusion fit big.parquet --checkpoint half.safetensors -o model/     may be stopped, and goes on from there

Training looks after itself: rows set aside judge it, it ends when they stop improving, and the best weights are kept.
In a CSV file ISO dates become dates, codes such as 01234, +49 and 1E5 stay text, empty cells and NA are missing.
--kinds corrects what was guessed: code=text leaves a column as it is, also the word NA; zip=number reads 01234 as a
number; day=datetime:%d.%m.%Y reads and writes such dates; paid=boolean two words such as yes and no. --missing '-,?'
names the words for missing values, --missing '' leaves the empty cell alone. Separators and decimal commas are
remembered with the model and written again. Bounds of a --constraint are written as the cells of the table.
--label makes a model that can be asked for a class, and gives rare classes as much of the training as frequent ones.
Set rows aside for 'cfdg-diffusion report' before you fit."""

SAMPLE_EXAMPLES = """examples:
  cfdg-diffusion sample model/ -n 5                               CSV to standard output
  cfdg-diffusion sample model/ -n 1_000_000 -o synthetic.csv      any number of rows in bounded memory
  cfdg-diffusion sample model/ -n 1_000_000 -o synthetic.parquet
  cfdg-diffusion sample model/ -n 500 --label '>50K' -o rich.csv  rows of one class, exactly
  cfdg-diffusion sample model/ -n 500 --label income='>50K' --label sex=Female -o some.csv
  cfdg-diffusion sample model/ -n 1000 --balance -o balanced.csv  as many of each class
  cfdg-diffusion sample model/ --labels wanted.csv -o rows.csv    one row for each row of a table of labels
  cfdg-diffusion sample model/ --like adult.csv --fix age,sex -o alike.csv    these columns kept, the others generated

guidance, for models with a label: --guidance 0.5 makes rows more typical of their class and less varied,
--guidance rare=0.5 those of one class; 0 is the plain model. --interval 0.2,5 lets it act between two noise levels.
The same seed gives the same file; another --seed gives other rows. --escape-formulas is for files that will be opened
in a spreadsheet: text that begins as a formula (= + - @) gets an apostrophe in front."""

IMPUTE_EXAMPLES = """examples:
  cfdg-diffusion impute model/ holes.csv              CSV to standard output
  cfdg-diffusion impute model/ holes.csv -o full.csv
  cfdg-diffusion impute model/ holes.parquet -o full.parquet --seed 1     another filling that is as likely

Empty cells, and NA or null, are filled with values that go with the rest of their row; all other cells are copied as
they are, text for text in CSV, with value and type in Parquet. The table has the columns of training, and may have
more, which are copied. A local time without an offset, where training had a time zone, has the offset before a change
of clocks if that repeats the hour or leaves it out: 02:30 is the first of two. Fill several times with different seeds
to see how certain the filling is. Generated cells obey the model's constraints."""

REPORT_EXAMPLES = """examples:
  cfdg-diffusion report train.csv synthetic.csv
  cfdg-diffusion report train.csv synthetic.csv --holdout holdout.csv --label income -o report.html
  cfdg-diffusion report train.csv synthetic.csv --holdout holdout.csv --json report.json --quiet
  cfdg-diffusion report train.csv synthetic.csv --drop name,id --kinds zip=category     as in fit

The report reads no model: give it again what fit was told by --drop and --kinds, and how the files are written.
The holdout is real rows that trained nothing, best as many as the training rows: only against them can one see whether
a table was copied, so that privacy and utility need it. The headline is detection: how well boosted trees tell
synthetic from real rows, where 0.5 is guessing. --label is the column that a model trained on synthetic rows has to
predict. Needs scikit-learn: pip install 'cfdg-diffusion[report]'."""

INSPECT_EXAMPLES = """examples:
  cfdg-diffusion inspect model/                       columns, labels, training, settings
  cfdg-diffusion inspect adult.csv                    what fit would take each column for
  cfdg-diffusion inspect adult.csv --label income     ... and how many rows each label has"""

"""What stands below the options in the help of a command."""

BENCH_NOTES = """\
Speeds stand beside ceilings measured in the same run, right before and after each of them:

  read bandwidth   GB/s at which the same threads read memory once, front to back (the best pass)
  int8 peak        GOPS of int8 multiply-adds in registers, with the same threads and instruction
                   set; a multiply-add counts as two
  bandwidth_share  weight_bytes_per_token x steps per second / read bandwidth: how much of the
                   memory's speed the weights alone take, each read once per step
  peak_share       2 x multiply-adds of the weight matrices / time / int8 peak; in a prefill the
                   output head counts once, for the last row

decode: so many sequences, each with a context of 64 tokens to begin with, compute one token each
per step, logits included, sampling left out; the median step. prefill: a fresh prompt; the median.
cold start: `tonnage run MODEL Hi --max-tokens 1` from process start to process end with the file in
the page cache, the median; peak RSS: the highest of those processes.
"""

AUDIT_NOTES = """\
The text is cut into chunks of 512 tokens, and of each the second half is predicted.

  perplexity       e to the mean negative log-likelihood of a token; lower is better
  KL divergence    of the model from the reference, over the whole vocabulary, in nats; 0: the same
  top-1 agreement  share of tokens where both find the same one the likeliest
  top-5 agreement  share of the reference's five likeliest tokens that are the model's, too

--gate makes a check of it: mean_kld, kld_median, kld_p99, kld_p999 and perplexity with <= and a
number, top1_agreement and top5_agreement with >= and a share. The exit code is 4 where one is
missed.

The 95 % intervals take chunks for independent samples. The first chunks of one long text are not,
and say less about the rest of it: of 12 runs of 20 chunks of WikiText-2, 7 intervals held the
perplexity of all. What was measured is kept, and found again while model, text and kernels are the
same.

With --memory it measures what `tonnage plan` of the same options chooses, weights and pages; beside
MODEL itself as the reference, that plan then shows the measured figure instead of its estimate:

  tonnage audit MODEL --reference MODEL --memory 128MiB && tonnage plan MODEL --memory 128MiB
"""

PLAN_NOTES = """\
The bytes are those that `tonnage run` and Engine.open allocate and refuse by: the whole process,
interpreter included. What is not stated is chosen: int8 pages where they cost at most 0.005 nats;
then, to fit, fewer batch tokens, int8 pages or smaller weights within --quality, and last a
shorter context (docs/planning.md). A plan that does not fit ends with exit code 2 and the changes
that would each make it fit; with --json it is an object with "accepted": false and exit code 0.
Without --memory the budget is what this process can get now.

Quality is a mean KL divergence from the file as it stands, in nats: measured where `tonnage audit`
has been, else an estimate with its known error. A forecast needs this machine to be measured.

With --machine the budget is what that machine holds, and the speed comes from published facts.
Tokens per second follow from two terms; they overlap, so the slower one counts:

  seconds = max(bytes / (bandwidth x share), 2 x multiply-adds / (peak x share))

bytes: weights and KV pages that a token reads, from the model's headers. share: the part of the
bandwidth that decoding was seen to reach on that machine, or the median of the others. decode: one
sequence behind a full context; prefill: a fresh prompt of 512 tokens. A quantized model multiplies
in int8 where the machine has it. Caches never hold a model.

How good it is: against the published decode rates that the formula can express, 19 of them on 8
machines, the median error is 18% and the worst 102% when the machine is taken as never measured;
9% and 52% with its own measured share, which is the median of the same rates. Small models on fast
machines come out too fast, because what a step costs beside bytes and multiply-adds is no term.
There is no published prefill to compare with.

A machine file has the form of the shipped catalog, with one [device.NAME]:

  [device.box]
  name = "My box"
  [device.box.peak]
  int8 = 4.0e12
  [[device.box.tier]]
  name = "ddr"
  role = "memory"
  capacity_bytes = 68719476736
  bandwidth_bytes_per_s = 9.0e10
"""

BATCH_NOTES = """\
INPUT has one JSON object per line, either of OpenAI's Batch API

  {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
   "body": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}}

or plain, with the sampling options of `tonnage run` by their names in Python:

  {"prompt": "Hi", "max_tokens": 20, "temperature": 0}
  {"messages": [{"role": "user", "content": "Hi"}]}

OUTPUT gets one line for each, in the same order and form; the options below hold where a line says
nothing. A line that cannot be answered gets an error in its place; the others are answered, and the
exit code is 3. It is 0 when OUTPUT has no error. What is in OUTPUT already is kept when it belongs
to the same lines, model and options: after Ctrl-C, a kill or a power cut the same command goes on.
"""

# By command.
NOTES = {"audit": AUDIT_NOTES, "batch": BATCH_NOTES, "bench": BENCH_NOTES, "plan": PLAN_NOTES}

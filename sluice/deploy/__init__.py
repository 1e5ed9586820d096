"""Deployment of Sluice into an AWS account: plan, apply, check and remove.

Everything that the functions read and write has to exist first: a stream, two tables, IP sets, a rule group, the
delivery of logs, the first rules and the first token. Setup creates that part (``resources/``). Chalice's deployer then
creates the functions, their event sources, roles, schedule and admin API (``deploying.py``), from what exists in the
account (``deployed.py``). Teardown removes both parts.

A *stage* (``stage.py``) is one deployment: a name, an account and region, and the operator's choices. The names of
everything in it, and most ARNs, follow from these, so nothing has to be looked up to know what a stage consists of.

A *resource* (``resource.py``, ``resources/``) is one item of a stage. It can find itself in the account, list how the
existing item differs from the desired one, create, change and remove itself. A resource knows nothing about plans.

Every command follows the same steps::

    resources_of(stage)            the resources, in order of creation
    survey(resources, account)     each with what exists under its name            reads only
    to_set_up(survey)              steps: create, change, keep, or refuse          pure
    apply(steps, account)          the steps, in order                             writes

Teardown surveys ``remains_of(stage)``, plans with ``to_tear_down``, in reverse order, and looks again at its end; the
doctor plans a setup and reports each step that would do something. A *plan* is therefore data: ``--dry-run`` prints it,
``--json`` encodes it, tests compare it, and nothing is written before the operator has seen it.

Rules that hold everywhere:

- **No state file.** A file that lists what was created can be lost, or disagree with the account. The account itself
  is asked each time. The only thing remembered is the operator's choices, in an SSM parameter of the stage. It is
  created first and removed last, so an interrupted run can always be repeated without its options.
- **Ownership by tag.** Everything created carries the tag ``sluice:stage``. A resource of the desired name without the
  tag is refused by setup and kept by teardown. Items that take no tags are recognised by what they refer to.
- **Other owners' resources** (web ACLs, distributions) get additions only, which teardown removes. The rest of
  their configuration is sent back exactly as it was read.
- **Repeatable.** ``apply`` looks at each resource again before it creates or changes it. A run that stopped anywhere,
  for any reason, is repaired by running the same command again; tests interrupt it at every single write. Chalice's own
  record is made from the account before and after each deployment (decision 21).
- **Undo.** Setup names teardown as its undo; after a teardown, setup creates an empty stage. Teardown empties the IP
  sets first, so that no client stays blocked whatever happens afterwards.

With CloudFormation (``stack.py``, ``packaging.py``) the stack creates the resources and the functions, and setup adds
only what a stack cannot: first rules, first token, and the additions to web ACLs and distributions.
"""

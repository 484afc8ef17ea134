"""A vLLM server for a run's policy.

options.py      what is asked for besides the run's configuration
launch.py       the command and environment that serve a configuration
environment.py  where vLLM is installed, apart from Lemma
process.py      the server's life: started, healthy, ended with all that it started
leash.py        ends a command with the process that started it
"""

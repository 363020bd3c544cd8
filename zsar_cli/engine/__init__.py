"""Files in, records out: the pipeline, classifiers of one model or several, and how a name becomes one."""

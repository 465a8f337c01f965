"""The life of a job, whatever it does: claimed by one process, kept alive, handed over, ended; and how it is looked up."""

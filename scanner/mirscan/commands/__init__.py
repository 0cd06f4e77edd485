"""The verbs beside the scan: fold, score, evaluate, demo, doctor, bench."""

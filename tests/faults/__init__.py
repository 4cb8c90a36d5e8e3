"""The faults that the accounting must survive: a file for each, a sentence for each way it may strike.

After every one of them `holding.everything_holds` is asked the same questions.
"""

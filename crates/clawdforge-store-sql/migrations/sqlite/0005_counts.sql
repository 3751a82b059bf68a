-- Lines of the ledger that are written once for many times, such as a burst of failed sign-ins, say how many.

ALTER TABLE ledger ADD COLUMN count INTEGER; -- NULL is once

"""From a GAN that collapses to a recipe that holds on fresh seeds: examination, race, proof, prescription.

`command` goes through them. The numbers of the race choose the winner, and so overstate it; what is reported is the
proof, on seeds that had no part in the choice.
"""

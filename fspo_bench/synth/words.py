"""What the report says of its figures: what is measured, how, and what to look for."""

HEAD = (
    "Shares are in percent, entropies in nats. Beside each estimate stand its 95% interval and what it was "
    "taken from; a dash stands for a count or a spread. Large tasks are sampled by a fixed seed: the same "
    "data give the same report."
)

COUNTS = "Counts of the task's files and, where it was synthesised here, of the rows of each stage so far."

SIMILARITY = (
    "Cosine of the embeddings of every two answers to one question; lower is more diverse. The paper "
    "went from 0.96 (one small model, temperature 0.3) to 0.71 (several models, one view an answer), "
    "with BGE-M3. Cosines of different embedders do not compare; here {embedder}. Intervals are by "
    "question."
)

DUPLICATES = (
    "Two questions are near each other from a cosine of {NEAR_QUESTION}, two answers to one question from "
    "{NEAR_ANSWER}; texts that differ in case and spacing only have 1. Should be near 0. Intervals are "
    "Wilson's, a question a trial."
)

FIRMNESS = (
    "The entropy of a label is 0 nats where the labeller always names the same answer and 0.693 (ln 2) "
    "where it tosses a coin; the paper reports 0.64 before refinement and 0.13 after. It is taken over "
    "all verdicts on a pair that was asked about at least twice, both orders together, a tie as half a "
    "verdict for each. Few verdicts make a label look firmer than it is: the row of the coin says what "
    "as many tosses of a fair coin show. Intervals are by user."
)

DIFFERENCES = (
    "Share of the pairs labelled by both of two users on which they choose differently: 50% is unrelated "
    "tastes, more is opposed ones. Much disagreement makes a task personal. Two users who never disagree "
    "are copies, unless one has labels where the other has none. Users are compared from {LEAST_COMMON} "
    "common pairs on; the interval is a jackknife over users."
)

LENGTH = (
    "How often the longer of two answers (in characters) is the chosen one, where lengths differ. 50% "
    "is no preference; far from it, a method can win by length alone. The interval is by user."
)

IDEAL = (
    "The ideal observer of the data card knows every answer's true loadings and the train users' "
    "traits. It sees N shots of a test user on train questions, weighs each train user's traits by how "
    "well they explain them, and predicts the labels on test questions. It is near the most that any "
    "method can reach. Without shots: the train users' majority on the very pair. The interval is by "
    "user."
)

CROWD = (
    "The observer knows other users' labels and reads no text. All that a user said about one question "
    "is hidden; N shots are drawn from the user's other questions, one of each. Every other user is "
    "weighed by how well their own labels agree with the shots (a likelihood; a pair they never "
    "labelled counts as a coin), and their weighted vote on the very pair is the guess, an even vote "
    "half right. Labels on pairs that nobody else labelled are left out. It says how much the crowd "
    "tells; a method that reads the texts can do better. Without shots: the plain majority of the "
    "others. The interval is by user."
)

// What sampling does with scores: the same steps as the server's, so that sliders act without a request.

// The shares of tokens, likeliest first; those that a filter removes have 0.
// `scores` are log-probabilities by token; top-k and top-p are null for all.
export function shares(scores, { temperature, top_k, top_p }) {
  const tokens = Object.entries(scores).sort(([, a], [, b]) => b - a);
  if (!tokens.length) return [];
  const highest = tokens[0][1];
  if (temperature === 0) return tokens.map(([token], index) => [token, index ? 0 : 1]);
  let weights = tokens.map(([, score]) => Math.exp((score - highest) / temperature));
  if (top_k !== null && top_k < weights.length) {
    const least = weights[top_k - 1];
    weights = weights.map((weight) => (weight >= least ? weight : 0));
  }
  if (top_p !== null) {
    const wanted = top_p * sum(weights);
    let before = 0;
    weights = weights.map((weight) => {
      const kept = before < wanted ? weight : 0;
      before += weight;
      return kept;
    });
  }
  const total = sum(weights);
  return tokens.map(([token], index) => [token, weights[index] / total]);
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

"""How a node is reached: Flower for orders, the relay for the steps of open sessions. Both only dial out."""

"""What tests stand on, ours and yours: the gradient check, the session contract, the leak check."""

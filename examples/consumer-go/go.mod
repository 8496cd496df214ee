module causeway.example/consumer

go 1.22

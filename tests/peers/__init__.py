"""The deployed pipeline with AWS's own client library over real protocols: DynamoDB, Kinesis, WAF."""

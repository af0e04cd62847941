//! S3: objects.

use aws_sdk_s3::primitives::ByteStream;

use crate::{contract, ground::code};

#[test]
fn an_object_reads_back_as_it_was_put() {
    contract(async |ground| {
        let key = format!("sha256/{} +é", ground.own);
        for bytes in [0, 1, 100_000, 1_500_000] {
            let body: Vec<u8> = (0..bytes).map(|index: usize| index.to_le_bytes()[0]).collect();
            let put = ground.s3.put_object().bucket(&ground.bucket).key(&key).body(ByteStream::from(body.clone()));
            put.send().await.unwrap();
            let head = ground.s3.head_object().bucket(&ground.bucket).key(&key).send().await.unwrap();
            assert_eq!(head.content_length, i64::try_from(bytes).ok());
            let found = ground.s3.get_object().bucket(&ground.bucket).key(&key).send().await.unwrap();
            assert!(found.e_tag.is_some());
            assert_eq!(found.body.collect().await.unwrap().to_vec(), body, "{bytes} bytes");
        }
    });
}

#[test]
fn what_is_not_there_is_not_found() {
    contract(async |ground| {
        let get = ground.s3.get_object().bucket(&ground.bucket).key("missing").send().await;
        assert!(get.as_ref().is_err_and(|error| error.as_service_error().is_some_and(|error| error.is_no_such_key())), "{get:?}");
        let head = ground.s3.head_object().bucket(&ground.bucket).key("missing").send().await;
        assert!(head.as_ref().is_err_and(|error| error.as_service_error().is_some_and(|error| error.is_not_found())), "{head:?}");
        let nowhere = ground.s3.get_object().bucket(format!("{}-none", ground.bucket)).key("missing").send().await;
        assert_eq!(code(&nowhere), "NoSuchBucket");
    });
}
